//! A message that was given up.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letter")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub queue: String,
    #[sea_orm(column_name = "type")]
    pub type_: String,
    pub event: String,
    pub error: String,
    pub died_at: DateTimeUtc,
    pub retried_at: Option<DateTimeUtc>,
    pub dismissed_at: Option<DateTimeUtc>,
    pub stood: Option<String>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
