//! A data key, wrapped. Its row outlives its material.

use rekey_domain::{Algorithm, KeyState};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Id,
    pub keyring_id: Uuid,
    pub version: i32,
    pub state: Text<KeyState>,
    pub algorithm: Text<Algorithm>,
    pub wrapped: Option<Vec<u8>>,
    pub check_value: Vec<u8>,
    pub used: i64,
    pub used_by_applications: i64,
    pub created_at: DateTimeUtc,
    pub activated_at: Option<DateTimeUtc>,
    pub deactivated_at: Option<DateTimeUtc>,
    pub expires_at: Option<DateTimeUtc>,
    pub master_key: Option<String>,
    pub public_key: Option<Vec<u8>>,
    pub longest_lease: Option<i64>,
    pub leases_end_at: Option<DateTimeUtc>,
    pub reported_at: Option<DateTimeUtc>,
    pub compromised_since: Option<DateTimeUtc>,
    pub emptied_at: Option<DateTimeUtc>,
    pub closed_at: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
