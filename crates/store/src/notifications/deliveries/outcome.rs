//! What became of a delivery: taken, to be tried again, given up, about nothing any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{About, Answers, ChannelName, DeliveryState};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait,
    PaginatorTrait, QueryFilter, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::untold::is_over;
use crate::{
    StoreError, Unit,
    database::stored::{Json, Text},
    notifications::entities::delivery::{self, Column},
};

/// Notes that attempts are being made, before they are: what was on its way when its process died may have arrived. It
/// comes again after `within`, unless it is known by then what became of it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn begin_attempts(unit: &Unit, ids: &[Uuid], within: Duration) -> Result<(), StoreError> {
    let again = unit.database_time_in(within);
    let now = unit.database_time_in(Duration::ZERO);
    let attempts = Expr::col(Column::Attempts).add(1);
    let first = Expr::col(Column::FirstAttemptAt).if_null(now);
    delivery::Entity::update_many()
        .col_expr(Column::Attempts, attempts)
        .col_expr(Column::FirstAttemptAt, first)
        .col_expr(Column::LastAttemptAt, Expr::value(now))
        .col_expr(Column::DueAt, Expr::value(again))
        .filter(Column::Id.is_in(ids.iter().copied()))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Notes that the receiver took it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_sent(unit: &Unit, id: Uuid) -> Result<(), StoreError> {
    settle(unit, Column::Id.eq(id), DeliveryState::Sent, None).await?;
    Ok(())
}

/// Marks a delivery as about nothing any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn drop_moot(unit: &Unit, id: Uuid) -> Result<u64, StoreError> {
    settle(unit, Column::Id.eq(id), DeliveryState::Moot, None).await
}

/// Notes that an attempt failed, and what the addresses of a mail answered so far; it is made again after `wait`, or given
/// up where there is none.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_failure(
    unit: &Unit,
    id: Uuid,
    (why, answers): (&str, Answers),
    wait: Option<Duration>,
) -> Result<(), StoreError> {
    let change = match wait {
        Some(wait) => delivery::ActiveModel {
            due_at: Set(unit.database_time_in(wait)),
            answers: Set(Some(Json(answers))),
            ..Default::default()
        },
        None => delivery::ActiveModel {
            state: Set(Text(DeliveryState::Dead)),
            settled_at: Set(Some(unit.database_time_in(Duration::ZERO))),
            answers: Set(Some(Json(answers.given_up()))),
            ..Default::default()
        },
    };
    let change = delivery::ActiveModel {
        failure: Set(Some(why.to_owned())),
        ..change
    };
    delivery::Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(Text(DeliveryState::Due)))
        .exec(unit.db())
        .await?;
    Ok(())
}

pub(super) async fn settle(
    unit: &Unit,
    which: impl Into<Condition>,
    state: DeliveryState,
    digest: Option<Uuid>,
) -> Result<u64, StoreError> {
    let change = delivery::ActiveModel {
        state: Set(Text(state)),
        settled_at: Set(Some(unit.database_time_in(Duration::ZERO))),
        digest_id: Set(digest),
        ..Default::default()
    };
    let settled = delivery::Entity::update_many()
        .set(change)
        .filter(which.into())
        .filter(Column::State.eq(Text(DeliveryState::Due)))
        .exec(unit.db())
        .await?;
    Ok(settled.rows_affected)
}

/// Has what presses told after all that was given up, of what has not ended: the channel works again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn revive(unit: &Unit, channel: &ChannelName) -> Result<(), StoreError> {
    let again = delivery::ActiveModel {
        state: Set(Text(DeliveryState::Due)),
        due_at: Set(unit.database_time_in(Duration::ZERO)),
        first_attempt_at: Set(None),
        settled_at: Set(None),
        ..Default::default()
    };
    delivery::Entity::update_many()
        .set(again)
        .filter(given_up(channel))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// What presses still, and the channel did not take.
fn given_up(channel: &ChannelName) -> Condition {
    Condition::all()
        .add(Column::Channel.eq(channel.as_str()))
        .add(Column::State.eq(Text(DeliveryState::Dead)))
        .add(Column::Presses.eq(true))
        .add(Column::About.ne(Text(About::Test)))
        .add(is_over().not())
}

/// Whether the channel gave something up that presses still.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn has_given_up(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
) -> Result<bool, StoreError> {
    let given_up = delivery::Entity::find().filter(given_up(channel)).limit(1);
    Ok(given_up.count(db).await? > 0)
}

/// Whether an incident or an alert that presses has waited for the channel since before then.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn presses_for(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    before: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let waits = delivery::Entity::find()
        .filter(Column::Channel.eq(channel.as_str()))
        .filter(Column::State.eq(Text(DeliveryState::Due)))
        .filter(Column::Presses.eq(true))
        .filter(Column::About.is_in([About::Incident, About::Alert].map(|about| about.to_string())))
        .filter(Column::Occasion.lt(before))
        .limit(1);
    Ok(waits.count(db).await? > 0)
}

/// Whether the channel gave something up since then.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn given_up_since(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    since: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let dead = delivery::Entity::find()
        .filter(Column::Channel.eq(channel.as_str()))
        .filter(Column::State.eq(Text(DeliveryState::Dead)))
        .filter(Column::SettledAt.gte(since.timestamp_millis()))
        .limit(1);
    Ok(dead.count(db).await? > 0)
}
