//! A place where a pass opened the bytes of a value in quarantine.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reopened")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub rotation_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub pass: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub column_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub row_key: String,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
