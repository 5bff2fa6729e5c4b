//! A dead letter names a rotation; this tells which, and where that stands.

use rekey_messages::{Event, Queue};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::Value;
use uuid::Uuid;

use super::DeadLetter;
use crate::{
    StoreError,
    rotations::{Rotation, entities::rotation},
};

/// Whether people and systems outside publish what is in a queue of this name.
pub(super) fn is_from_outside(queue: &str) -> bool {
    queue.parse().is_ok_and(Queue::is_from_outside)
}

/// What a message is about, as it says itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) rotation: Uuid,
    pub(super) batch: Option<Uuid>,
}

impl About {
    /// None for what is about no rotation, cannot be read, or comes from outside: that may say anything.
    pub(super) fn of(queue: &str, event: &str) -> Option<Self> {
        if is_from_outside(queue) {
            return None;
        }
        let event = Event::parse(event.as_bytes()).ok()?;
        let id = |name: &str| event.data.get(name).and_then(Value::as_str)?.parse().ok();
        Some(Self {
            rotation: id("rotation")?,
            batch: id("batch"),
        })
    }
}

impl DeadLetter {
    /// The rotation that it is about, if it is about one.
    pub fn rotation(&self) -> Option<Uuid> {
        About::of(&self.queue, &self.event).map(|about| about.rotation)
    }
}

/// Where the rotation that a message is about stands now.
pub(super) async fn stands_now(
    db: &impl ConnectionTrait,
    queue: &str,
    event: &str,
) -> Result<Option<String>, StoreError> {
    let Some(about) = About::of(queue, event) else {
        return Ok(None);
    };
    let rotation = rotation::Entity::find_by_id(about.rotation).one(db).await?;
    Ok(rotation.map(Rotation::from).as_ref().map(stands))
}

/// In a text that changes when the rotation goes on.
pub(super) fn stands(rotation: &Rotation) -> String {
    let (state, part) = (rotation.state, rotation.plan_part.as_ref());
    let plan = (rotation.planned, rotation.plan_table, rotation.plan_after);
    let part = part.map(|part| part.id.to_string());
    let turn = (rotation.generation, rotation.pass, rotation.resumptions);
    format!("{state} {turn:?} {plan:?} {part:?}")
}
