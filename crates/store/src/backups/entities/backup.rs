//! A bundle that a destination has acknowledged.

use rekey_domain::DestinationName;
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backup")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub key_id: Id,
    pub destination: Text<DestinationName>,
    pub name: String,
    pub backup_key_id: Id,
    pub recovery: Option<String>,
    pub stored_at: DateTimeUtc,
    pub confirmed_at: DateTimeUtc,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
