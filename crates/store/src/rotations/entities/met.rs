//! How many values of a column a pass has met.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "met")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub rotation_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub pass: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub column_id: Uuid,
    pub seen: i64,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
