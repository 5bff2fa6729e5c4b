//! A message that is to be sent.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub exchange: String,
    pub queue: Option<String>,
    #[sea_orm(column_name = "type")]
    pub type_: String,
    pub event: String,
    pub available_at: i64,
    pub leased_until: i64,
    pub lease_token: i64,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
