//! What the latest look for stragglers of a keyring found.

use rekey_domain::ColumnName;
use sea_orm::entity::prelude::*;

use crate::database::stored::Json;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "straggler_look")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub keyring_id: Uuid,
    pub looked_at: DateTimeUtc,
    pub stragglers: i64,
    pub unknown_keys: Option<String>,
    pub failure: Option<String>,
    pub columns: Option<Json<Vec<ColumnName>>>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
