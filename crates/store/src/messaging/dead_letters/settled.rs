//! Dead letters whose rotation went on or ended: nobody has to look at them any more.

use std::collections::HashMap;

use rekey_domain::{BatchState, RotationState};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{
    DeadLetter,
    standing::{About, stands},
};
use crate::{
    StoreError, Unit,
    messaging::entities::dead_letter,
    rotations::{
        Rotation,
        entities::{batch, rotation},
    },
};

/// Dismisses letters whose batch is done, or whose rotation went on or is over. Letters about no rotation, or that
/// nobody can read, wait for a person. Returns how many were dismissed.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resolve_settled(unit: &Unit) -> Result<u64, StoreError> {
    let letters = super::open(unit.db()).await?;
    let about = letters.iter().filter_map(|letter| {
        let about = About::of(&letter.queue, &letter.event)?;
        Some((letter, about))
    });
    let about: Vec<_> = about.collect();
    if about.is_empty() {
        return Ok(0);
    }
    let jobs = Jobs::of(unit.db(), about.iter().map(|(_, about)| *about)).await?;
    let settled = about
        .iter()
        .filter(|(letter, about)| jobs.have_settled(letter, *about));
    let ids: Vec<_> = settled.map(|(letter, _)| letter.id).collect();
    let resolved = dead_letter::ActiveModel {
        dismissed_at: Set(Some(unit.now())),
        ..Default::default()
    };
    let resolved = dead_letter::Entity::update_many()
        .set(resolved)
        .filter(dead_letter::Column::Id.is_in(ids))
        .filter(dead_letter::Column::DismissedAt.is_null())
        .exec(unit.db())
        .await?;
    Ok(resolved.rows_affected)
}

/// The rotations and batches that letters are about.
struct Jobs {
    rotations: HashMap<Uuid, Rotation>,
    batches: HashMap<Uuid, batch::Model>,
}

impl Jobs {
    async fn of(
        db: &impl ConnectionTrait,
        about: impl Iterator<Item = About> + Clone,
    ) -> Result<Self, StoreError> {
        let of_rotations = about.clone().map(|about| about.rotation);
        let rotations = rotation::Entity::find().filter(rotation::Column::Id.is_in(of_rotations));
        let of_batches = about.filter_map(|about| about.batch);
        let batches = batch::Entity::find().filter(batch::Column::Id.is_in(of_batches));
        let (rotations, batches) = (rotations.all(db).await?, batches.all(db).await?);
        Ok(Self {
            rotations: rotations
                .into_iter()
                .map(|one| (one.id, one.into()))
                .collect(),
            batches: batches.into_iter().map(|one| (one.id, one)).collect(),
        })
    }

    fn have_settled(&self, letter: &DeadLetter, about: About) -> bool {
        use RotationState::{Cancelled, Completed, Superseded};
        let Some(rotation) = self.rotations.get(&about.rotation) else {
            return false;
        };
        if matches!(rotation.state, Completed | Cancelled | Superseded) {
            return true;
        }
        let batch = about.batch.and_then(|batch| self.batches.get(&batch));
        match batch.map(|batch| batch.state.0) {
            Some(BatchState::Done | BatchState::Void) => return true,
            Some(BatchState::Failed) => return false,
            Some(BatchState::Planned | BatchState::Dispatched) | None => {}
        }
        let stood = letter.stood.as_ref();
        stood.is_some_and(|stood| *stood != stands(rotation))
    }
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Principal, RotationReason};
    use rekey_messages::{Event, Queue, RotationDue};

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore},
        messaging::dead_letters::{file, open},
        rotations,
    };

    async fn letter_about(unit: &Unit, queue: Queue, rotation: Uuid) {
        let event = Event::of(&RotationDue { rotation }, "/rekey", unit.now());
        let body = event.to_json();
        let filed = file(unit, queue, &event.type_, &body, "hopeless");
        filed.await.unwrap();
    }

    #[tokio::test]
    async fn a_letter_is_resolved_when_its_rotation_goes_on_and_not_before() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let unit = store.unit().await;
            let (ana, reason) = (Principal::os("ana", "clinic"), RotationReason::Request);
            let rotation = rotations::start(&unit, keyring.id, reason, &ana).await;
            let rotation = rotation.unwrap();
            let unknown = Uuid::now_v7();
            letter_about(&unit, Queue::Rotator, rotation.id).await;
            letter_about(&unit, Queue::Rotator, unknown).await;
            // What comes from outside may say anything.
            letter_about(&unit, Queue::Requests, rotation.id).await;
            assert_eq!(resolve_settled(&unit).await.unwrap(), 0);
            rotations::resume(&unit, &rotation).await.unwrap();
            assert_eq!(resolve_settled(&unit).await.unwrap(), 1);
            let left = open(unit.db()).await.unwrap();
            let mut left: Vec<_> = left.iter().map(DeadLetter::rotation).collect();
            left.sort();
            assert_eq!(left, [None, Some(unknown)]);
        }
    }
}
