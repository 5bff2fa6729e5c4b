//! The newest checkpoint that was written to a destination.

use rekey_domain::{BackupProblem, DestinationName};
use sea_orm::entity::prelude::*;

use crate::database::stored::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "checkpoint")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub destination: Text<DestinationName>,
    pub counter: i64,
    pub sha256: Vec<u8>,
    pub sequence: i64,
    pub hash: Vec<u8>,
    pub states: String,
    pub written_at: DateTimeUtc,
    pub problem: Option<Text<BackupProblem>>,
    pub failing_since: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
