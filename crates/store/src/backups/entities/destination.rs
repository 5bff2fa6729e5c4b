//! A destination of bundles, as `rekey apply` wrote it.

use rekey_domain::{DestinationName, Erasable};
use sea_orm::entity::prelude::*;

use crate::database::stored::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "destination")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: Text<DestinationName>,
    pub made_at: DateTimeUtc,
    pub erasable: Option<Text<Erasable>>,
    pub probed_at: Option<DateTimeUtc>,
    pub mark: Option<Uuid>,
    pub here_since: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
