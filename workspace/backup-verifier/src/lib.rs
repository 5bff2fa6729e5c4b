//! Backs every key up at every destination, and proves it by drills, which are restores.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{Cadence, Worker};
use rekey_operations::{Checkpoints, OperationError, Services, back_up_and_drill, beat};
use rekey_runtime::{config::MonitoringConfig, leased};
use rekey_store::leases::Lease;
use tokio_util::sync::CancellationToken;

/// One verifier works at a time; another takes over when it is gone.
const LEASE: &str = "backup-verifier";
/// A new standby is found within this time.
const EVERY: Duration = Duration::from_secs(2);

/// What the verifier works with.
#[derive(Clone)]
pub struct Deps {
    services: Services,
    cadence: Cadence,
}

impl Deps {
    /// A verifier with clients of its own, which backs up and drills as often as the configuration says.
    pub fn new(services: Services, monitoring: &MonitoringConfig) -> Self {
        Self {
            services,
            cadence: Cadence {
                backup_every: monitoring.backup_every,
                drill_every: monitoring.drill_every,
            },
        }
    }
}

/// Backs up and drills until `shutdown`.
pub async fn run(deps: Deps, shutdown: CancellationToken) {
    let beating = beat(&deps.services, Worker::BackupVerifier, None, &shutdown);
    tokio::join!(work(&deps, &shutdown), beating);
}

async fn work(deps: &Deps, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        let name = (&deps.services.store, deps.services.holder.as_str());
        let worked = leased::run(name, LEASE, |lease| async move {
            // A lease that is taken anew, as after a connection that was lost, compares at once.
            let mut checkpoints = Checkpoints::default();
            while !shutdown.is_cancelled() {
                let next = look(deps, &lease, &mut checkpoints).await?;
                shutdown.run_until_cancelled(pause(deps, next)).await;
            }
            Ok(leased::Ended::Held(()))
        });
        let worked: Result<Option<()>, OperationError> = worked.await;
        if let Err(error) = worked {
            tracing::warn!(%error, "the backup-verifier waits");
        }
        let pause = tokio::time::sleep(EVERY);
        shutdown.run_until_cancelled(pause).await;
    }
}

/// When to look again.
async fn look(
    deps: &Deps,
    lease: &Lease,
    checkpoints: &mut Checkpoints,
) -> Result<Option<DateTime<Utc>>, OperationError> {
    let principal = Worker::BackupVerifier.principal();
    checkpoints.look(&deps.services, lease, &principal).await?;
    let looked = back_up_and_drill(&deps.services, deps.cadence, Some(lease), &principal).await?;
    Ok(looked.next)
}

/// A key that is made meanwhile is found by looking, so the pause is short.
async fn pause(deps: &Deps, next: Option<DateTime<Utc>>) {
    let now = deps.services.store.now().await;
    let until = next.zip(now.ok()).map(|(next, now)| next - now);
    let until = until.and_then(|until| until.to_std().ok());
    match next {
        Some(_) => tokio::time::sleep(until.unwrap_or_default().min(EVERY)).await,
        None => tokio::time::sleep(EVERY).await,
    }
}
