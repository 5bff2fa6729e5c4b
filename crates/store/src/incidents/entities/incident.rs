//! A thing that happened.

use rekey_domain::{IncidentKind, IncidentState, Principal};
use sea_orm::entity::prelude::*;

use crate::{
    database::stored::{Id, Json, Text},
    incidents::exposure::Exposure,
};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "incident")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub kind: Text<IncidentKind>,
    pub state: Text<IncidentState>,
    pub keyring_id: Uuid,
    pub key_id: Id,
    pub rotation_id: Option<Uuid>,
    pub reported_by: Text<Principal>,
    pub opened_at: DateTimeUtc,
    pub acted_at: Option<DateTimeUtc>,
    pub machine_acted_at: Option<DateTimeUtc>,
    pub since: Option<DateTimeUtc>,
    pub exposure: Option<Json<Exposure>>,
    pub withheld: Option<String>,
    pub acknowledged_by: Option<Text<Principal>>,
    pub acknowledged_at: Option<DateTimeUtc>,
    pub resolved_by: Option<Text<Principal>>,
    pub resolved_at: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
