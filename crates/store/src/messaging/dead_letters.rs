//! Messages that were given up: sending them again, or being done with them.

mod settled;
mod standing;

use rekey_messages::{Event, Queue, route_of};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, Select,
};
use uuid::Uuid;

pub use crate::messaging::entities::dead_letter::Model as DeadLetter;
pub use settled::resolve_settled;

use crate::{StoreError, Unit, messaging::entities::dead_letter};

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
        dismissed_at: Set(None),
        stood: Set(standing::stands_now(unit.db(), &queue.to_string(), event).await?),
    };
    dead_letter::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(())
}

/// Dead letters that were neither sent again nor dismissed.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open(db: &impl ConnectionTrait) -> Result<Vec<DeadLetter>, StoreError> {
    Ok(not_over().all(db).await?)
}

/// How many messages wait for a person.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn count_open(db: &impl ConnectionTrait) -> Result<u64, StoreError> {
    Ok(not_over().count(db).await?)
}

fn not_over() -> Select<dead_letter::Entity> {
    not_retried().filter(dead_letter::Column::DismissedAt.is_null())
}

fn not_retried() -> Select<dead_letter::Entity> {
    dead_letter::Entity::find().filter(dead_letter::Column::RetriedAt.is_null())
}

/// Why the event of this id was given up, if it was.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn why(db: &impl ConnectionTrait, event: &str) -> Result<Option<String>, StoreError> {
    let letters = not_retried().all(db).await?;
    let is_it = |letter: &DeadLetter| {
        Event::parse(letter.event.as_bytes()).is_ok_and(|read| read.id == event)
    };
    Ok(letters.into_iter().find(is_it).map(|letter| letter.error))
}

/// The letter of this id, which was not sent again.
async fn waiting(unit: &Unit, id: Uuid) -> Result<DeadLetter, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("dead letter {id}"),
        known: Vec::new(),
    };
    let letter = dead_letter::Entity::find_by_id(id)
        .one(unit.db())
        .await?
        .ok_or_else(unknown)?;
    if letter.retried_at.is_none() {
        return Ok(letter);
    }
    Err(StoreError::Refused(format!(
        "dead letter {id} was sent again already"
    )))
}

/// Sends a dead letter again as a new event.
///
/// # Errors
/// [`StoreError::Unknown`] for no such letter, [`StoreError::Refused`] for one that cannot be read,
/// or that is a request from outside.
pub async fn retry(unit: &Unit, id: Uuid) -> Result<(), StoreError> {
    let letter = waiting(unit, id).await?;
    let refused = |why: &str| {
        StoreError::Refused(format!(
            "dead letter {id} cannot be sent again: {why}; to be done with it: rekey dead-letters dismiss {id} --because WHY"
        ))
    };
    if standing::is_from_outside(&letter.queue) {
        return Err(refused(
            "it is a request from outside that was never admitted, and nobody vouches any more for who sent it; whoever did sends it anew",
        ));
    }
    let mut event =
        Event::parse(letter.event.as_bytes()).map_err(|error| refused(&error.to_string()))?;
    let unroutable = || refused(&format!("no worker handles events of type {}", event.type_));
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

/// Dismisses a dead letter that is not to be sent again. Its row stays.
///
/// # Errors
/// [`StoreError::Unknown`] for no such letter, [`StoreError::Refused`] for one that was sent again or
/// dismissed.
pub async fn dismiss(unit: &Unit, id: Uuid) -> Result<DeadLetter, StoreError> {
    let letter = waiting(unit, id).await?;
    if letter.dismissed_at.is_some() {
        return Err(StoreError::Refused(format!(
            "dead letter {id} was dismissed already, or resolved with its rotation"
        )));
    }
    let row = dead_letter::ActiveModel {
        id: Set(id),
        dismissed_at: Set(Some(unit.now())),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(letter)
}

#[cfg(test)]
mod tests {
    use rekey_messages::RotationDue;

    use super::*;
    use crate::database::test_store::{Kind, TestStore};

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
            let refused = refused.to_string();
            for said in ["from outside", "dismiss"] {
                assert!(refused.contains(said), "{refused}");
            }
        }
    }

    #[tokio::test]
    async fn a_dismissed_letter_waits_for_nobody_and_says_why_all_the_same() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            let due = RotationDue {
                rotation: Uuid::now_v7(),
            };
            let event = Event::of(&due, "/rekey", unit.now());
            let body = event.to_json();
            file(&unit, Queue::Rotator, &event.type_, &body, "hopeless")
                .await
                .unwrap();
            let id = open(unit.db()).await.unwrap()[0].id;
            dismiss(&unit, id).await.unwrap();
            assert_eq!(open(unit.db()).await.unwrap(), []);
            let why = why(unit.db(), &event.id).await.unwrap();
            assert_eq!(why.as_deref(), Some("hopeless"));
            let again = dismiss(&unit, id).await.unwrap_err();
            assert!(matches!(again, StoreError::Refused(_)), "{again}");
            // Who changes their mind may.
            retry(&unit, id).await.unwrap();
            let late = dismiss(&unit, id).await.unwrap_err();
            assert!(matches!(late, StoreError::Refused(_)), "{late}");
        }
    }
}
