//! Deliveries: made from what began or ended, tried until they are taken or given up, and kept while anybody may ask.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{
    About, AlertKind, ChannelName, ChannelPolicy, DeliveryState, IncidentKind, IncidentState,
    LastMinute, Occurrence, Severity, Topic,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, OnConflict, Query, SelectStatement, SimpleExpr},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::Text,
    incidents::{
        Incident,
        alerts::{self, Alert},
        entities::{alert, incident},
    },
    notifications::entities::delivery::{self, Column},
};

/// What a channel was told lately counts for so long.
const MINUTE: i64 = 60_000;

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

/// Incidents that are not resolved and that the channel was not told of.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn untold_incidents(
    db: &impl ConnectionTrait,
    (channel, policy): (&ChannelName, &ChannelPolicy),
    most: u64,
) -> Result<Vec<Incident>, StoreError> {
    let kinds = IncidentKind::all()
        .filter(|kind| policy.takes(Topic::Incident(*kind), kind.severity()))
        .map(|kind| kind.to_string());
    let id = Expr::col((incident::Entity, incident::Column::Id));
    let began = Expr::col((incident::Entity, incident::Column::OpenedAt));
    let untold = incident::Entity::find()
        .filter(incident::Column::Kind.is_in(kinds))
        .filter(incident::Column::State.ne(Text(IncidentState::Resolved)))
        .filter(Expr::exists(told(channel, id, began)).not())
        .order_by_asc(incident::Column::Id)
        .limit(most);
    let untold = untold.all(db).await?;
    Ok(untold.into_iter().map(Incident::from).collect())
}

/// Alerts that are raised and that the channel was not told of.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn untold_alerts(
    db: &impl ConnectionTrait,
    (channel, policy): (&ChannelName, &ChannelPolicy),
    most: u64,
) -> Result<Vec<Alert>, StoreError> {
    let id = Expr::col((alert::Entity, alert::Column::Id));
    let began = Expr::col((alert::Entity, alert::Column::RaisedAt));
    let untold = alerts::known()
        .filter(alert::Column::ClearedAt.is_null())
        .filter(taken(policy))
        // Who does not listen is not told of that.
        .filter(
            Condition::all()
                .add(alert::Column::Kind.eq(Text(AlertKind::ChannelDead)))
                .add(alert::Column::Subject.eq(channel.as_str()))
                .not(),
        )
        .filter(Expr::exists(told(channel, id, began)).not())
        .order_by_asc(alert::Column::RaisedAt)
        .limit(most);
    let untold = untold.all(db).await?;
    Ok(untold.into_iter().map(Alert::from).collect())
}

/// Alerts that the policy lets through. Those of older programs are as severe as their kind.
fn taken(policy: &ChannelPolicy) -> Condition {
    let mut any = Condition::any();
    for kind in AlertKind::all() {
        let takes = |severity: &Severity| policy.takes(Topic::Alert(kind), *severity);
        let said = Severity::ALL
            .into_iter()
            .filter(takes)
            .map(|one| one.to_string());
        let mut severe = Condition::any().add(alert::Column::Severity.is_in(said));
        if takes(&kind.severity()) {
            severe = severe.add(alert::Column::Severity.is_null());
        }
        let of_kind = Condition::all()
            .add(alert::Column::Kind.eq(Text(kind)))
            .add(severe);
        any = any.add(of_kind);
    }
    any
}

/// Whether the channel was told that this began then.
fn told(channel: &ChannelName, subject: Expr, began: Expr) -> SelectStatement {
    let of = |column| Expr::col((delivery::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(delivery::Entity)
        .and_where(of(Column::Channel).eq(channel.as_str()))
        .and_where(of(Column::Event).eq(Occurrence::Began.to_string()))
        .and_where(of(Column::SubjectId).eq(subject))
        .and_where(of(Column::Occasion).eq(began))
        .to_owned()
}

/// What the channel was told of, or was about to be, and that has ended; nothing was said of the end yet.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn ended(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    most: u64,
) -> Result<Vec<Delivery>, StoreError> {
    use DeliveryState::{Digested, Due, Sent};
    let matters = Condition::any()
        .add(Column::State.is_in([Due, Sent].map(|state| state.to_string())))
        .add(
            Condition::all()
                .add(Column::State.eq(Text(Digested)))
                .add(Column::Attempts.gt(0)),
        );
    let later = Alias::new("later");
    let of_later = |column: Column| Expr::col((later.clone(), column));
    let of = |column: Column| Expr::col((delivery::Entity, column));
    let said = Query::select()
        .expr(Expr::val(1))
        .from_as(delivery::Entity, later.clone())
        .and_where(of_later(Column::Channel).eq(channel.as_str()))
        .and_where(of_later(Column::Event).eq(Occurrence::Ended.to_string()))
        .and_where(of_later(Column::SubjectId).eq(of(Column::SubjectId)))
        .and_where(of_later(Column::Occasion).eq(of(Column::Occasion)))
        .to_owned();
    let over = delivery::Entity::find()
        .filter(Column::Channel.eq(channel.as_str()))
        .filter(Column::Event.eq(Text(Occurrence::Began)))
        .filter(matters)
        .filter(is_over())
        .filter(Expr::exists(said).not())
        .order_by_asc(Column::Id)
        .limit(most);
    Ok(parsed(over.all(db).await?))
}

/// Whether what a delivery is about has ended. A test has when it was taken.
fn is_over() -> Condition {
    Condition::any()
        .add(Column::About.eq(Text(About::Test)))
        .add(
            Condition::all()
                .add(Column::About.eq(Text(About::Alert)))
                .add(Expr::exists(still_raised()).not()),
        )
        .add(
            Condition::all()
                .add(Column::About.eq(Text(About::Incident)))
                .add(Expr::exists(still_open()).not()),
        )
}

fn still_raised() -> SelectStatement {
    let of = |column| Expr::col((alert::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(alert::Entity)
        .and_where(of(alert::Column::Id).eq(Expr::col((delivery::Entity, Column::SubjectId))))
        .and_where(of(alert::Column::RaisedAt).eq(Expr::col((delivery::Entity, Column::Occasion))))
        .and_where(of(alert::Column::ClearedAt).is_null())
        .to_owned()
}

fn still_open() -> SelectStatement {
    let of = |column| Expr::col((incident::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(incident::Entity)
        .and_where(of(incident::Column::Id).eq(Expr::col((delivery::Entity, Column::SubjectId))))
        .and_where(of(incident::Column::State).ne(IncidentState::Resolved.to_string()))
        .to_owned()
}

/// Marks a delivery as about nothing any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn drop_moot(unit: &Unit, id: Uuid) -> Result<u64, StoreError> {
    settle(unit, Column::Id.eq(id), DeliveryState::Moot, None).await
}

/// Deliveries that are due, the oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn due(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    presses: bool,
    (now, most): (i64, u64),
) -> Result<Vec<Delivery>, StoreError> {
    let due = delivery::Entity::find()
        .filter(is_due(channel, now))
        .filter(Column::Presses.eq(presses))
        .order_by_asc(Column::DueAt)
        .order_by_asc(Column::Id)
        .limit(most);
    Ok(parsed(due.all(db).await?))
}

/// How many that do not press are due.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waiting(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
    now: i64,
) -> Result<u64, StoreError> {
    let waiting = delivery::Entity::find()
        .filter(is_due(channel, now))
        .filter(Column::Presses.eq(false));
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

/// Puts all that is due and does not press into one digest: that which was not taken yet, or a new one.
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
    let taken = is_due(channel, now).add(Column::Presses.eq(false));
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

/// Digests that were taken, and whether anything is left of what they told; the latest last.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open_digests(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
) -> Result<(Vec<Delivery>, bool), StoreError> {
    let of = |column: Column| Expr::col((delivery::Entity, column));
    let later = Alias::new("later");
    let said = Query::select()
        .expr(Expr::val(1))
        .from_as(delivery::Entity, later.clone())
        .and_where(Expr::col((later.clone(), Column::SubjectId)).eq(of(Column::SubjectId)))
        .and_where(Expr::col((later.clone(), Column::Event)).eq(Occurrence::Ended.to_string()))
        .to_owned();
    let digests = delivery::Entity::find()
        .filter(Column::Channel.eq(channel.as_str()))
        .filter(Column::About.eq(Text(About::Digest)))
        .filter(Column::Event.eq(Text(Occurrence::Began)))
        .filter(Column::State.eq(Text(DeliveryState::Sent)))
        .filter(Expr::exists(said).not())
        .order_by_asc(Column::Id);
    let digests = parsed(digests.all(db).await?);
    let subjects = digests.iter().map(|digest| digest.subject);
    let left = delivery::Entity::find()
        .filter(Column::DigestId.is_in(subjects))
        .filter(Column::Event.eq(Text(Occurrence::Began)))
        .filter(is_over().not())
        .limit(1);
    let is_left = left.count(db).await? > 0;
    Ok((digests, is_left))
}

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

/// Notes that an attempt failed; it is made again after `wait`, or given up where there is none.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_failure(
    unit: &Unit,
    id: Uuid,
    why: &str,
    wait: Option<Duration>,
) -> Result<(), StoreError> {
    let change = match wait {
        Some(wait) => delivery::ActiveModel {
            due_at: Set(unit.database_time_in(wait)),
            failure: Set(Some(why.to_owned())),
            ..Default::default()
        },
        None => delivery::ActiveModel {
            state: Set(Text(DeliveryState::Dead)),
            settled_at: Set(Some(unit.database_time_in(Duration::ZERO))),
            failure: Set(Some(why.to_owned())),
            ..Default::default()
        },
    };
    delivery::Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(Text(DeliveryState::Due)))
        .exec(unit.db())
        .await?;
    Ok(())
}

async fn settle(
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

/// Whether something that presses has waited for the channel since before then.
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
        .filter(Column::Occasion.lt(before));
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
        .filter(Column::SettledAt.gte(since.timestamp_millis()));
    Ok(dead.count(db).await? > 0)
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
