//! The inbox: which deliveries took effect, so that each does once (rule 3).

use rekey_messages::Event;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::OnConflict};
use uuid::Uuid;

use crate::{StoreError, Unit, entities::inbox};

/// Notes that `handler` takes effect for this attempt of an event; `false` if it already did.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn first_sight(unit: &Unit, event: &Event, handler: &str) -> Result<bool, StoreError> {
    let row = inbox::ActiveModel {
        id: Set(Uuid::now_v7()),
        source: Set(event.source.clone()),
        message_id: Set(event.id.clone()),
        attempt: Set(i32::try_from(event.attempt).unwrap_or(i32::MAX)),
        handler: Set(handler.to_owned()),
        seen_at: Set(unit.database_time_in(std::time::Duration::ZERO).await?),
    };
    use inbox::Column::{Attempt, Handler, MessageId, Source};
    let inserted = inbox::Entity::insert(row)
        .on_conflict(
            OnConflict::columns([Source, MessageId, Attempt, Handler])
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(unit.db())
        .await?;
    Ok(inserted == 1)
}

/// Forgets deliveries seen before `before` (database time, milliseconds).
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn prune(unit: &Unit, before: i64) -> Result<u64, StoreError> {
    let deleted = inbox::Entity::delete_many()
        .filter(inbox::Column::SeenAt.lt(before))
        .exec(unit.db())
        .await?;
    Ok(deleted.rows_affected)
}
