//! A delivery: what a channel is told, and what became of that.

use rekey_domain::{About, Answers, ChannelName, DeliveryState, Occurrence};
use sea_orm::entity::prelude::*;

use crate::database::stored::{Json, Text};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub channel: Text<ChannelName>,
    pub about: Text<About>,
    pub subject_id: Uuid,
    pub event: Text<Occurrence>,
    pub occasion: DateTimeUtc,
    pub presses: bool,
    pub state: Text<DeliveryState>,
    pub due_at: i64,
    pub attempts: i32,
    pub first_attempt_at: Option<i64>,
    pub last_attempt_at: Option<i64>,
    pub settled_at: Option<i64>,
    pub failure: Option<String>,
    pub digest_id: Option<Uuid>,
    pub answers: Option<Json<Answers>>,
}

/// No relations: queries name what they join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
