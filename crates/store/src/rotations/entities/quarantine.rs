//! A value that could not be re-encrypted.

use rekey_domain::QuarantineReason;
use sea_orm::entity::prelude::*;

use crate::database::stored::{Id, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantine")]
#[expect(
    missing_docs,
    reason = "the columns are described by the schema and the words of the design"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub rotation_id: Uuid,
    pub pass: Option<i32>,
    pub column_id: Uuid,
    pub row_key: String,
    pub(crate) found_key_id: Option<Id>,
    pub(crate) reason: Text<QuarantineReason>,
    pub found_at: DateTimeUtc,
    pub resolved_at: Option<DateTimeUtc>,
    pub row_name: Option<Vec<u8>>,
    pub detail: Option<String>,
    pub word: Option<String>,
    pub released_at: Option<DateTimeUtc>,
    pub whole: Option<String>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
