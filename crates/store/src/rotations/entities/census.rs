//! How many values of a column stood under one key; no key id: not ciphertext of ours, -1: unreadable, -2: empty.

use sea_orm::entity::prelude::*;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "census")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub rotation_id: Uuid,
    pub pass: i32,
    pub column_id: Uuid,
    pub(crate) found_key_id: Option<i64>,
    pub(crate) rows: i64,
    pub taken_at: DateTimeUtc,
    pub(crate) quarantined: Option<i64>,
    pub place: Option<String>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
