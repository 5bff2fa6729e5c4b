//! The inbox: which deliveries took effect, so that each does once (rule 3).

use rekey_messages::Event;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::OnConflict,
};
use uuid::Uuid;

use crate::{StoreError, Unit, messaging::entities::inbox};

/// Notes that `handler` takes effect for this attempt of an event; `false` if it already did.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn first_sight(unit: &Unit, event: &Event, handler: &str) -> Result<bool, StoreError> {
    let attempt = i32::try_from(event.attempt).unwrap_or(i32::MAX);
    first(unit, (&event.source, &event.id), attempt, handler).await
}

/// The same for what may be no event: the copy of a message, `id`, that came from `source`.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn first_copy(
    unit: &Unit,
    source: &str,
    id: &str,
    handler: &str,
) -> Result<bool, StoreError> {
    first(unit, (source, id), 0, handler).await
}

async fn first(
    unit: &Unit,
    (source, id): (&str, &str),
    attempt: i32,
    handler: &str,
) -> Result<bool, StoreError> {
    let row = inbox::ActiveModel {
        id: Set(Uuid::now_v7()),
        source: Set(source.to_owned()),
        message_id: Set(id.to_owned()),
        attempt: Set(attempt),
        handler: Set(handler.to_owned()),
        seen_at: Set(unit.database_time_in(std::time::Duration::ZERO)),
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

/// Whether `handler` took effect for this attempt of an event. Locks nothing: a handler that takes effect calls
/// [`first_sight`].
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn took_effect(
    db: &impl ConnectionTrait,
    event: &Event,
    handler: &str,
) -> Result<bool, StoreError> {
    let attempt = i32::try_from(event.attempt).unwrap_or(i32::MAX);
    let seen = inbox::Entity::find()
        .filter(inbox::Column::Source.eq(&event.source))
        .filter(inbox::Column::MessageId.eq(&event.id))
        .filter(inbox::Column::Attempt.eq(attempt))
        .filter(inbox::Column::Handler.eq(handler));
    Ok(seen.one(db).await?.is_some())
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

#[cfg(test)]
mod tests {
    use rekey_messages::RotationDue;

    use super::*;
    use crate::database::test_store::{Kind, TestStore, now};

    fn event() -> Event {
        let rotation = Uuid::now_v7();
        Event::of(&RotationDue { rotation }, "/rekey/test", now())
    }

    async fn sees(store: &TestStore, event: &Event, handler: &str) -> bool {
        let unit = store.unit().await;
        let first = first_sight(&unit, event, handler).await.unwrap();
        unit.commit().await.unwrap();
        first
    }

    #[tokio::test]
    async fn each_attempt_takes_effect_once_in_each_handler() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let event = event();
            assert!(sees(&store, &event, "advance").await);
            assert!(!sees(&store, &event, "advance").await);
            assert!(sees(&store, &event, "another handler").await);
            let again = event.clone().next_attempt();
            assert!(sees(&store, &again, "advance").await);
            assert!(!sees(&store, &again, "advance").await);
            let namesake = Event {
                source: "/elsewhere".to_owned(),
                ..event
            };
            assert!(sees(&store, &namesake, "advance").await);
        }
    }

    #[tokio::test]
    async fn an_effect_that_was_rolled_back_may_be_had_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let event = event();
            let unit = store.unit().await;
            assert!(first_sight(&unit, &event, "advance").await.unwrap());
            drop(unit);
            assert!(sees(&store, &event, "advance").await);
        }
    }

    #[tokio::test]
    async fn only_effects_older_than_asked_for_are_forgotten() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let event = event();
            assert!(sees(&store, &event, "advance").await);
            let unit = store.unit().await;
            assert_eq!(prune(&unit, 0).await.unwrap(), 0);
            let later = unit.database_time_in(std::time::Duration::from_secs(1));
            assert_eq!(prune(&unit, later).await.unwrap(), 1);
            assert!(first_sight(&unit, &event, "advance").await.unwrap());
        }
    }
}
