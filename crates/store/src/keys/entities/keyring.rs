//! A named line of keys.

use rekey_domain::{Algorithm, KeyringName, KeyringPolicy, Purpose};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Json, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "keyring")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: Text<KeyringName>,
    pub purpose: Text<Purpose>,
    pub algorithm: Text<Algorithm>,
    pub policy: Json<KeyringPolicy>,
    pub primary_key_id: Option<Id>,
    pub created_at: DateTimeUtc,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
