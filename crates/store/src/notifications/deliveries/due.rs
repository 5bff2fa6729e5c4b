//! What is due at a channel: by itself, or in a digest with all else.

use std::time::Duration;

use rekey_domain::{About, ChannelName, DeliveryState, LastMinute, Occurrence};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, Query, SimpleExpr},
};
use uuid::Uuid;

use super::{
    delivery::{Delivery, NewDelivery, parsed},
    later::waits,
    outcome::settle,
    planned::plan,
};
use crate::{
    StoreError, Unit,
    database::stored::Text,
    incidents::entities::alert,
    notifications::entities::delivery::{self, Column},
};

/// What a channel was told lately counts for so long.
const MINUTE: i64 = 60_000;

/// What waits at a channel by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// What presses.
    Presses,
    /// What began, and does not press.
    Begins,
    /// What ended, and did not press.
    Ends,
}

impl Line {
    fn is_here(self) -> Condition {
        let event = match self {
            Self::Presses => return Condition::all().add(Column::Presses.eq(true)),
            Self::Begins => Occurrence::Began,
            Self::Ends => Occurrence::Ended,
        };
        Condition::all()
            .add(Column::Presses.eq(false))
            .add(Column::Event.eq(Text(event)))
    }
}

/// Deliveries that are due, the oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn due(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    line: Line,
    (now, most): (i64, u64),
) -> Result<Vec<Delivery>, StoreError> {
    let due = delivery::Entity::find()
        .filter(is_due(channel, now))
        .filter(line.is_here())
        .order_by_asc(Column::DueAt)
        .order_by_asc(Column::Id)
        .limit(most);
    Ok(parsed(due.all(db).await?))
}

/// How many are due.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waiting(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    line: Line,
    now: i64,
) -> Result<u64, StoreError> {
    let waiting = delivery::Entity::find()
        .filter(is_due(channel, now))
        .filter(line.is_here());
    Ok(waiting.count(db).await?)
}

/// A date further ahead than any wait was set before the clock was stepped back.
fn is_due(channel: &ChannelName, now: i64) -> Condition {
    let furthest = now + i64::try_from(rekey_domain::LONGEST_WAIT.as_millis()).unwrap_or(i64::MAX);
    Condition::all()
        .add(Column::Channel.eq(channel.as_str()))
        .add(Column::State.eq(Text(DeliveryState::Due)))
        .add(
            Column::DueAt
                .lte(now)
                .or(Column::DueAt.gt(furthest + MINUTE)),
        )
        .add(waits().not())
}

/// What the channel was told in the last minute, of what does not press.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn last_minute(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    now: i64,
) -> Result<LastMinute, StoreError> {
    let lately = || {
        delivery::Entity::find()
            .filter(Column::Channel.eq(channel.as_str()))
            .filter(Column::LastAttemptAt.between(now - MINUTE, now + MINUTE))
    };
    let alone = lately().filter(Column::Presses.eq(false)).count(db).await?;
    let digests = lately()
        .filter(Column::About.eq(Text(About::Digest)))
        .filter(Column::Event.eq(Text(Occurrence::Began)));
    Ok(LastMinute {
        alone,
        digest: digests.count(db).await? > 0,
    })
}

/// Puts all that began, is due and does not press into one digest: that which was not taken yet, or a new one.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn digest(unit: &Unit, channel: &ChannelName) -> Result<(), StoreError> {
    let now = unit.database_time_in(Duration::ZERO);
    let open = delivery::Entity::find()
        .filter(Column::Channel.eq(channel.as_str()))
        .filter(Column::About.eq(Text(About::Digest)))
        .filter(Column::Event.eq(Text(Occurrence::Began)))
        .filter(Column::State.eq(Text(DeliveryState::Due)));
    let subject = match open.one(unit.db()).await? {
        Some(open) => open.subject_id,
        None => {
            let new = NewDelivery {
                about: About::Digest,
                subject: unit.new_id(),
                event: Occurrence::Began,
                occasion: unit.now(),
                presses: true,
            };
            let subject = new.subject;
            plan(unit, channel, [new]).await?;
            subject
        }
    };
    let taken = is_due(channel, now).add(Line::Begins.is_here());
    settle(unit, taken, DeliveryState::Digested, Some(subject)).await?;
    Ok(())
}

/// What went along in a digest: by kind of alert, how many.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn digested(
    db: &impl ConnectionTrait,
    digest: Uuid,
) -> Result<Vec<(String, u64)>, StoreError> {
    let kind = Expr::col((alert::Entity, alert::Column::Kind));
    let id = Expr::col((alert::Entity, alert::Column::Id));
    let of_alert = Query::select()
        .expr(kind)
        .from(alert::Entity)
        .and_where(id.eq(Expr::col((delivery::Entity, Column::SubjectId))))
        .to_owned();
    let of_kind = SimpleExpr::SubQuery(None, Box::new(of_alert.into()));
    let counted: Vec<(Option<String>, i64)> = delivery::Entity::find()
        .select_only()
        .column_as(of_kind, "kind")
        .column_as(Column::Id.count(), "deliveries")
        .filter(Column::DigestId.eq(digest))
        .group_by(Expr::col(Alias::new("kind")))
        .into_tuple()
        .all(db)
        .await?;
    let of = |(of_them, count): (Option<String>, i64)| {
        (of_them.unwrap_or_default(), count.unsigned_abs())
    };
    Ok(counted.into_iter().map(of).collect())
}
