//! The deployment's bundle at a destination, the newest.

use rekey_domain::{BackupProblem, DestinationName};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deployment_backup")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub destination: Text<DestinationName>,
    pub name: Option<String>,
    pub contents: Option<String>,
    pub backup_key_id: Option<Id>,
    pub recovery: Option<String>,
    pub stored_at: Option<DateTimeUtc>,
    pub confirmed_at: Option<DateTimeUtc>,
    pub proved_at: Option<DateTimeUtc>,
    pub tried_at: DateTimeUtc,
    pub problem: Option<Text<BackupProblem>>,
    pub times: i32,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
