//! Deliveries that are to be made, each once.

use std::time::Duration;

use rekey_domain::{ChannelName, DeliveryState};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, sea_query::OnConflict};

use super::{delivery::NewDelivery, outcome::settle};
use crate::{
    StoreError, Unit,
    database::stored::Text,
    notifications::entities::delivery::{self, Column},
};

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
        answers: Set(None),
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
