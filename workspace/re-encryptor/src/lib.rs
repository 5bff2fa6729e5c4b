//! Moves one batch of rows from the old keys to the new.

mod account;
mod again;
mod batch;
mod counts;
mod crashes;
mod handler;
mod keys;
mod limits;
mod names;
mod row;
mod together;
mod too_much;
mod value;
mod waiting;
mod work;

use std::sync::Arc;

use rekey_broker::Transport;
use rekey_domain::Worker as Kind;
use rekey_messages::Queue;
use rekey_operations::{Services, beat};
use rekey_runtime::Consumer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{again::InQuarantine, crashes::Crashes};

/// What the re-encryptor takes messages of, urgent ones first.
pub const QUEUES: &[Queue] = &[Queue::ReEncryptorUrgent, Queue::ReEncryptor];

/// What the re-encryptor works with.
#[derive(Clone)]
pub struct Deps {
    /// Store, KMS, sources, time.
    pub services: Services,
    /// Where messages come from.
    pub transport: Arc<dyn Transport>,
    /// Batches worked on at once by this process.
    pub slots: usize,
}

/// Works on batches until `shutdown`.
pub async fn run(deps: Deps, shutdown: CancellationToken) {
    let Deps {
        services,
        transport,
        slots,
    } = deps;
    counts::count_from_zero();
    let working = Consumer::new(QUEUES, slots, transport.clone(), services.store.clone())
        .handle(handler::ReEncryptBatch {
            services: services.clone(),
            wide: Semaphore::new(1),
            crashes: Crashes::default(),
            in_quarantine: InQuarantine::default(),
        })
        .run(shutdown.clone());
    let beating = beat(&services, Kind::ReEncryptor, Some(&*transport), &shutdown);
    tokio::join!(working, beating);
}
