//! A channel, as `rekey apply` wrote it. Its URL and secret are the notifier's own.

use rekey_domain::{ChannelKind, ChannelName, ChannelPolicy};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Json, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "channel")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: Text<ChannelName>,
    pub kind: Text<ChannelKind>,
    pub policy: Json<ChannelPolicy>,
    pub made_at: DateTimeUtc,
    pub disabled_at: Option<DateTimeUtc>,
    pub failure: Option<String>,
    pub failing_since: Option<DateTimeUtc>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
