//! A drill: one attempt, or several in a row that came to the same.

use rekey_domain::{BackupProblem, DestinationName};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "drill")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub key_id: Id,
    pub destination: Text<DestinationName>,
    pub bundle: Option<String>,
    pub problem: Option<Text<BackupProblem>>,
    pub began_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
    pub times: i32,
    pub millis: i64,
    pub opened: i64,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
