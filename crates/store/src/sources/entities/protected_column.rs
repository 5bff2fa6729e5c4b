//! A protected column; never forgotten.

use rekey_domain::{Bind, BindType, TextEncoding};
use sea_orm::entity::prelude::*;

use crate::database::stored::Json;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "protected_column")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub table_id: Uuid,
    pub keyring_id: Uuid,
    pub name: String,
    pub column_id: String,
    pub bind: Json<Bind>,
    pub bind_columns: Json<Vec<String>>,
    pub bind_types: Option<Json<Vec<BindType>>>,
    pub encoding: Json<TextEncoding>,
    pub created_at: DateTimeUtc,
    pub identity: Option<String>,
    pub bind_lengths: Option<Json<Vec<Option<u32>>>>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
