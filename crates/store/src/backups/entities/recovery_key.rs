//! The public half of a RECOVERY key.

use rekey_domain::Principal;
use sea_orm::entity::prelude::*;

use crate::database::stored::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recovery_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub fingerprint: String,
    pub public_key: Vec<u8>,
    pub share_set: Uuid,
    pub threshold: i32,
    pub shares: i32,
    pub made_by: Text<Principal>,
    pub made_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
