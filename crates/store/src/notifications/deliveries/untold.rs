//! What a channel is still to be told: what began, and what ended of what it was told.

use rekey_domain::{
    About, AlertKind, ChannelName, ChannelPolicy, DeliveryState, IncidentKind, IncidentState,
    Occurrence, Severity, Topic,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use super::delivery::{Delivery, parsed};
use crate::{
    StoreError,
    database::stored::Text,
    incidents::{
        Incident,
        alerts::{self, Alert},
        entities::{alert, incident},
    },
    notifications::entities::delivery::{self, Column},
};

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

/// Whether what a delivery is about has ended. A test has when it was taken.
pub(super) fn is_over() -> Condition {
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

pub(super) fn still_raised() -> SelectStatement {
    let of = |column| Expr::col((alert::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(alert::Entity)
        .and_where(of(alert::Column::Id).eq(Expr::col((delivery::Entity, Column::SubjectId))))
        .and_where(of(alert::Column::RaisedAt).eq(Expr::col((delivery::Entity, Column::Occasion))))
        .and_where(of(alert::Column::ClearedAt).is_null())
        .to_owned()
}

pub(super) fn still_open() -> SelectStatement {
    let of = |column| Expr::col((incident::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(incident::Entity)
        .and_where(of(incident::Column::Id).eq(Expr::col((delivery::Entity, Column::SubjectId))))
        .and_where(of(incident::Column::State).ne(IncidentState::Resolved.to_string()))
        .to_owned()
}
