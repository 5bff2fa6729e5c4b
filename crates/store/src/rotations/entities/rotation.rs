//! The work that replaces a keyring's primary key, or moves rows to the present one.

use std::collections::HashMap;

use rekey_domain::{ColumnName, Part, Principal, RotationKind, RotationReason, RotationState};
use sea_orm::entity::prelude::*;

use crate::{
    database::stored::{Id, Json, Text},
    rotations::figures::Totals,
};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rotation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub keyring_id: Uuid,
    pub kind: Text<RotationKind>,
    pub state: Text<RotationState>,
    pub reason: Json<RotationReason>,
    pub principal: Text<Principal>,
    pub paused: bool,
    pub paused_because: Option<String>,
    pub resumptions: i32,
    pub urgent: bool,
    pub generation: i32,
    pub pass: i32,
    pub planned: bool,
    pub plan_table: i32,
    pub plan_part: Option<Json<Part>>,
    pub plan_after: Option<i64>,
    pub target_key_id: Option<Id>,
    pub previous_key_id: Option<Id>,
    pub due_at: Option<DateTimeUtc>,
    pub resend_at: i64,
    pub requested_at: DateTimeUtc,
    pub switched_at: Option<DateTimeUtc>,
    pub ended_at: Option<DateTimeUtc>,
    pub failure: Option<String>,
    pub certificate: Option<String>,
    pub certificate_jws: Option<String>,
    pub certificate_due: Option<i64>,
    pub pause_after: Option<i64>,
    pub only_column: Option<Text<ColumnName>>,
    pub cancelled_because: Option<String>,
    pub sweep_columns: Option<Json<Vec<ColumnName>>>,
    pub totals: Option<Json<Totals>>,
    pub fences: Option<Json<HashMap<Uuid, String>>>,
    pub waiting_because: Option<String>,
    pub waiting_since: Option<i64>,
    pub pass_columns: Option<Json<Vec<Uuid>>>,
    pub stood_out: Option<bool>,
    pub unknown_keys_accepted: Option<bool>,
    pub incident_id: Option<Uuid>,
    pub late_pass: Option<i32>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
