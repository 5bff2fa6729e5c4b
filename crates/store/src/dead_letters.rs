//! Messages that were given up, and sending them again.

use rekey_messages::{Event, Queue, route_of};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
};
use uuid::Uuid;

pub use crate::entities::dead_letter::Model as DeadLetter;
use crate::{StoreError, Unit, entities::dead_letter};

/// Files a message as dead.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn file(
    unit: &Unit,
    queue: Queue,
    type_: &str,
    event: &str,
    error: &str,
) -> Result<(), StoreError> {
    let row = dead_letter::ActiveModel {
        id: Set(Uuid::now_v7()),
        queue: Set(queue.to_string()),
        type_: Set(type_.to_owned()),
        event: Set(event.to_owned()),
        error: Set(error.to_owned()),
        died_at: Set(unit.now()),
        retried_at: Set(None),
    };
    dead_letter::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// Dead letters that were not sent again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open(db: &impl ConnectionTrait) -> Result<Vec<DeadLetter>, StoreError> {
    Ok(dead_letter::Entity::find()
        .filter(dead_letter::Column::RetriedAt.is_null())
        .all(db)
        .await?)
}

/// Why the event of this id was given up, if it was.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn why(db: &impl ConnectionTrait, event: &str) -> Result<Option<String>, StoreError> {
    let letters = open(db).await?;
    let is_it = |letter: &DeadLetter| {
        Event::parse(letter.event.as_bytes()).is_ok_and(|read| read.id == event)
    };
    Ok(letters.into_iter().find(is_it).map(|letter| letter.error))
}

/// Sends a dead letter again as a new event.
///
/// # Errors
/// [`StoreError::Unknown`] for no such letter, [`StoreError::Refused`] for one that cannot be read,
/// or that is a request from outside.
pub async fn retry(unit: &Unit, id: Uuid) -> Result<(), StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("dead letter {id}"),
        known: Vec::new(),
    };
    let letter = dead_letter::Entity::find_by_id(id)
        .one(unit.db())
        .await?
        .ok_or_else(unknown)?;
    if letter.retried_at.is_some() {
        return Err(StoreError::Refused(format!(
            "dead letter {id} was sent again already"
        )));
    }
    if letter.queue == Queue::Requests.to_string() {
        return Err(StoreError::Refused(format!(
            "dead letter {id} is a request from outside that was never admitted; who sent it sends it again"
        )));
    }
    let mut event = Event::parse(letter.event.as_bytes())
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let unroutable =
        || StoreError::Refused(format!("no worker handles events of type {}", event.type_));
    let route = route_of(&event).ok_or_else(unroutable)?;
    event.id = Uuid::now_v7().to_string();
    event.attempt = 0;
    unit.send_event(&event, route, std::time::Duration::ZERO)
        .await?;
    let row = dead_letter::ActiveModel {
        id: Set(id),
        retried_at: Set(Some(unit.now())),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::{Kind, TestStore};

    #[tokio::test]
    async fn a_request_that_was_never_admitted_is_not_sent_again_by_us() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            let type_ = "rekey.rotation.requested.v1";
            let forged = r#"{"specversion":"1.0","id":"1","source":"/x","type":"rekey.rotation.requested.v1",
                "principal":"os:root@clinic","data":{"keyring":"phi"}}"#;
            file(&unit, Queue::Requests, type_, forged, "given up")
                .await
                .unwrap();
            let id = open(unit.db()).await.unwrap()[0].id;
            let refused = retry(&unit, id).await.unwrap_err();
            assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
        }
    }
}
