//! Deliveries: what a channel is told, each once, kept while anybody may ask.

mod due;
mod outcome;
mod untold;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{About, ChannelName, DeliveryState, Occurrence};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

pub use self::{
    due::{Line, digest, digested, due, last_minute, waiting},
    outcome::{
        begin_attempts, drop_moot, given_up_since, has_given_up, note_failure, note_sent,
        presses_for, revive,
    },
    untold::{ended, open_digests, untold_alerts, untold_incidents},
};
use self::{
    outcome::settle,
    untold::{still_open, still_raised},
};
use crate::{
    StoreError, Unit,
    database::stored::Text,
    notifications::entities::delivery::{self, Column},
};

/// What a channel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same for all attempts.
    pub id: Uuid,
    /// The channel.
    pub channel: ChannelName,
    /// What it is about.
    pub about: About,
    /// Which one.
    pub subject: Uuid,
    /// What became of that.
    pub event: Occurrence,
    /// When it began, as the same alert may be raised again.
    pub occasion: DateTime<Utc>,
    /// Whether it goes at once, by itself.
    pub presses: bool,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first was made, in milliseconds of the database's time.
    pub first_attempt_at: Option<i64>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

impl From<delivery::Model> for Delivery {
    fn from(row: delivery::Model) -> Self {
        Self {
            id: row.id,
            channel: row.channel.0,
            about: row.about.0,
            subject: row.subject_id,
            event: row.event.0,
            occasion: row.occasion,
            presses: row.presses,
            state: row.state.0,
            attempts: row.attempts.unsigned_abs(),
            first_attempt_at: row.first_attempt_at,
            failure: row.failure,
        }
    }
}

/// A delivery to make.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// What it is about.
    pub about: About,
    /// Which one.
    pub subject: Uuid,
    /// What became of that.
    pub event: Occurrence,
    /// When it began.
    pub occasion: DateTime<Utc>,
    /// Whether it goes at once, by itself.
    pub presses: bool,
}

/// Has a channel told of these, each once; returns how many it was not to be told of already.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn plan(
    unit: &Unit,
    channel: &ChannelName,
    new: impl IntoIterator<Item = NewDelivery>,
) -> Result<u64, StoreError> {
    let row = |one: NewDelivery| delivery::ActiveModel {
        id: Set(unit.new_id()),
        channel: Set(Text(channel.clone())),
        about: Set(Text(one.about)),
        subject_id: Set(one.subject),
        event: Set(Text(one.event)),
        occasion: Set(one.occasion),
        presses: Set(one.presses),
        state: Set(Text(DeliveryState::Due)),
        due_at: Set(unit.database_time_in(Duration::ZERO)),
        attempts: Set(0),
        first_attempt_at: Set(None),
        last_attempt_at: Set(None),
        settled_at: Set(None),
        failure: Set(None),
        digest_id: Set(None),
    };
    let once = OnConflict::columns([
        Column::SubjectId,
        Column::Channel,
        Column::Event,
        Column::Occasion,
    ])
    .do_nothing()
    .to_owned();
    let rows: Vec<_> = new.into_iter().map(row).collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let planned = delivery::Entity::insert_many(rows)
        .on_conflict(once)
        .exec_without_returning(unit.db())
        .await?;
    Ok(planned)
}

/// Notes that there is nothing to be told of it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn plan_moot(
    unit: &Unit,
    channel: &ChannelName,
    new: NewDelivery,
) -> Result<(), StoreError> {
    let subject = new.subject;
    let event = new.event;
    plan(unit, channel, [new]).await?;
    let which = Condition::all()
        .add(Column::Channel.eq(channel.as_str()))
        .add(Column::SubjectId.eq(subject))
        .add(Column::Event.eq(Text(event)));
    settle(unit, which, DeliveryState::Moot, None).await?;
    Ok(())
}

/// Deliveries about one subject, the oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn about(db: &impl ConnectionTrait, subject: Uuid) -> Result<Vec<Delivery>, StoreError> {
    let found = delivery::Entity::find()
        .filter(Column::SubjectId.eq(subject))
        .order_by_asc(Column::Id);
    Ok(parsed(found.all(db).await?))
}

/// Removes what was settled before (database time, milliseconds), unless what it is about goes on: else it would be
/// told anew.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn prune(unit: &Unit, before: i64) -> Result<u64, StoreError> {
    let goes_on = Condition::any()
        .add(Expr::exists(still_raised()))
        .add(Expr::exists(still_open()));
    let pruned = delivery::Entity::delete_many()
        .filter(Column::SettledAt.lt(before))
        .filter(goes_on.not())
        .exec(unit.db())
        .await?;
    Ok(pruned.rows_affected)
}

fn parsed(rows: Vec<delivery::Model>) -> Vec<Delivery> {
    rows.into_iter().map(Delivery::from).collect()
}
