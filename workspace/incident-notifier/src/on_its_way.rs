//! What is on its way to one receiver: of one incident or alert one message at a time, so that they arrive in order.

use std::collections::HashMap;

use rekey_store::deliveries::Delivery;
use uuid::Uuid;

/// Deliveries that are on their way, each with what it is told in order with.
#[derive(Debug, Default)]
pub struct OnItsWay(HashMap<Uuid, Option<Uuid>>);

impl OnItsWay {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether this one is on its way.
    pub fn has(&self, delivery: &Delivery) -> bool {
        self.0.contains_key(&delivery.id)
    }

    /// Adds one; false where it waits for another of the same, or is on its way already.
    pub fn add(&mut self, delivery: &Delivery) -> bool {
        let is_same = |thread: &Option<Uuid>| *thread == delivery.thread();
        if self.0.values().any(is_same) {
            return false;
        }
        self.0.insert(delivery.id, delivery.thread());
        true
    }

    /// What became of one is known.
    pub fn remove(&mut self, delivery: &Delivery) {
        self.0.remove(&delivery.id);
    }
}
