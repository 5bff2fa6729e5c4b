//! What a channel is told of one thing is told in order: an end of an earlier occasion waits for a later beginning, and is
//! dropped once that was told. A digest takes the place of the one before it.

use rekey_domain::{About, ChannelName, DeliveryState, Occurrence};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QuerySelect,
    sea_query::{Alias, Expr, Query, SelectStatement, SimpleExpr},
};

use super::outcome::settle;
use crate::{
    StoreError, Unit,
    database::stored::Text,
    incidents::entities::alert,
    notifications::entities::delivery::{self, Column},
};

/// Drops ends of what has begun anew, where the channel was told of that; returns how many.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn drop_overtaken(unit: &Unit, channel: &ChannelName) -> Result<u64, StoreError> {
    settle(unit, overtaken(channel), DeliveryState::Moot, None).await
}

/// Whether there are such ends.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn are_overtaken(
    db: &impl ConnectionTrait,
    channel: &ChannelName,
) -> Result<bool, StoreError> {
    let ends = delivery::Entity::find()
        .filter(overtaken(channel))
        .filter(Column::State.eq(Text(DeliveryState::Due)))
        .limit(1);
    Ok(ends.count(db).await? > 0)
}

fn overtaken(channel: &ChannelName) -> Condition {
    // What was given up did not arrive.
    let was_told = of(Column::Attempts)
        .gt(0)
        .and(of(Column::State).ne(DeliveryState::Dead.to_string()));
    Condition::all()
        .add(Column::Channel.eq(channel.as_str()))
        .add(Column::Event.eq(Text(Occurrence::Ended)))
        .add(Expr::exists(later_beginning(was_told)))
}

/// Whether it is an end that waits until it is known whether the channel is told of a later beginning.
pub(super) fn waits() -> Condition {
    let is_new = of(Column::State)
        .eq(DeliveryState::Due.to_string())
        .and(of(Column::Attempts).eq(0));
    // Told after all once the channel works, unless it has ended by then.
    let may_be_revived = of(Column::State).eq(DeliveryState::Dead.to_string()).and(
        of(Column::About)
            .eq(About::Digest.to_string())
            .or(Expr::exists(raised_then())),
    );
    Condition::all()
        .add(Column::Event.eq(Text(Occurrence::Ended)))
        .add(Expr::exists(later_beginning(is_new.or(may_be_revived))))
}

/// A later beginning of the same at the same channel.
fn later_beginning(which: SimpleExpr) -> SelectStatement {
    let ours = |column: Column| Expr::col((delivery::Entity, column));
    let is_same = of(Column::SubjectId)
        .eq(ours(Column::SubjectId))
        .or(of(Column::About).eq(About::Digest.to_string()));
    Query::select()
        .expr(Expr::val(1))
        .from_as(delivery::Entity, later())
        .and_where(of(Column::Channel).eq(ours(Column::Channel)))
        .and_where(of(Column::About).eq(ours(Column::About)))
        .and_where(is_same)
        .and_where(of(Column::Event).eq(Occurrence::Began.to_string()))
        .and_where(of(Column::Occasion).gt(ours(Column::Occasion)))
        .and_where(which)
        .to_owned()
}

fn raised_then() -> SelectStatement {
    let of_alert = |column| Expr::col((alert::Entity, column));
    Query::select()
        .expr(Expr::val(1))
        .from(alert::Entity)
        .and_where(of_alert(alert::Column::Id).eq(of(Column::SubjectId)))
        .and_where(of_alert(alert::Column::RaisedAt).eq(of(Column::Occasion)))
        .and_where(of_alert(alert::Column::ClearedAt).is_null())
        .to_owned()
}

fn later() -> Alias {
    Alias::new("later")
}

fn of(column: Column) -> Expr {
    Expr::col((later(), column))
}
