//! A state that people are told of until it has passed.

use rekey_domain::{AlertKind, Principal, Severity};
use sea_orm::entity::prelude::*;

use crate::database::stored::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub kind: Text<AlertKind>,
    pub subject: String,
    pub incident_id: Option<Uuid>,
    pub figure: i64,
    pub severity: Option<Text<Severity>>,
    pub raised_at: DateTimeUtc,
    pub acknowledged_by: Option<Text<Principal>>,
    pub acknowledged_at: Option<DateTimeUtc>,
    pub cleared_at: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
