//! Fires what is due: schedules, expiries, and messages whose job gave no sign of life.

mod leading;
mod prune;
mod tick;

use std::time::Duration;

use rekey_domain::Worker;
use rekey_operations::{Services, beat, watch_alerts};
use rekey_runtime::{crash, leased};
use rekey_store::{StoreError, leases::Lease};
use tokio_util::sync::CancellationToken;

/// What the scheduler works with.
#[derive(Clone)]
pub struct Deps {
    /// Store and time.
    pub services: Services,
    /// How long before a key expires people are told.
    pub expiration_warning: Duration,
}

const TICK: Duration = Duration::from_secs(1);
const LEASE: &str = "scheduler";

/// Leads when nobody else does, and ticks until `shutdown`.
pub async fn run(deps: Deps, shutdown: CancellationToken) {
    let Deps {
        services,
        expiration_warning,
    } = deps;
    tokio::join!(
        tick_on(&services, &shutdown),
        watch_alerts(&services, expiration_warning, &shutdown),
        beat(&services, Worker::Scheduler, None, &shutdown),
    );
}

async fn tick_on(services: &Services, shutdown: &CancellationToken) {
    let mut lease = None;
    while !shutdown.is_cancelled() {
        lease = match lead(services, lease.take()).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the scheduler waits");
                None
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    if let Some(lease) = lease {
        leased::give_back(&services.store, &lease).await;
    }
}

/// One tick as leader; `None` while another leads.
async fn lead(services: &Services, held: Option<Lease>) -> Result<Option<Lease>, StoreError> {
    let lease = match held {
        Some(lease) => lease,
        None => match leased::take(&services.store, LEASE, &services.holder).await? {
            Some(lease) => lease,
            None => return Ok(None),
        },
    };
    crash::point("scheduler.leading");
    match tick::tick(services, &lease).await {
        Ok(()) => Ok(Some(lease)),
        Err(error @ StoreError::Fenced { .. }) => Err(error),
        // Whatever else failed is looked at again in a second.
        Err(error) => {
            tracing::warn!(%error, "a tick failed");
            Ok(Some(lease))
        }
    }
}
