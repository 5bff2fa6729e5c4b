//! Both connections of the transport work with the same server, names, store, queues and health.

use std::collections::HashMap;

use rekey_messages::{Event, Queue};
use rekey_store::Store;
use tokio::sync::{Mutex, broadcast, mpsc};

use super::{connection::Server, health::Health, topology::Names};
use crate::Delivery;

/// What both connections work with.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) server: Server,
    pub(super) names: Names,
    pub(super) store: Store,
    pub(super) queues: HashMap<Queue, Incoming>,
    pub(super) broadcasts: broadcast::Sender<Event>,
    pub(super) publishing: Health,
    pub(super) consuming: Health,
}

/// One queue's deliveries on their way to the worker.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) prefetch: u16,
    pub(super) sender: mpsc::UnboundedSender<Delivery>,
    pub(super) receiver: Mutex<mpsc::UnboundedReceiver<Delivery>>,
}
