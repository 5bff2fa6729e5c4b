//! One physical range of one table, in one pass of a rotation.

use rekey_domain::BatchState;
use sea_orm::entity::prelude::*;

use crate::{
    database::stored::{Json, Text},
    rotations::figures::InDoubt,
};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "batch")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub rotation_id: Uuid,
    pub table_id: Uuid,
    pub pass: i32,
    pub part: String,
    pub part_form: String,
    pub first: i64,
    pub last: i64,
    pub(crate) state: Text<BatchState>,
    pub resend_at: i64,
    pub moved: i64,
    pub conflicts: i64,
    pub quarantined: i64,
    pub failure: Option<String>,
    pub ended_at: Option<DateTimeUtc>,
    pub rows_moved: Option<i64>,
    pub waiting_because: Option<String>,
    pub opened: Option<i64>,
    pub waiting_since: Option<i64>,
    pub(crate) in_doubt: Option<Json<InDoubt>>,
    pub led_by: Option<Uuid>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
