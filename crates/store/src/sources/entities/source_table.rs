//! A table of a source that has protected columns.

use rekey_domain::Triggers;
use sea_orm::entity::prelude::*;

use crate::database::stored::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "source_table")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub source_id: Uuid,
    pub name: String,
    pub relation: String,
    pub(crate) triggers: Option<Text<Triggers>>,
    pub publications_accepted: Option<bool>,
    pub oid: Option<i64>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
