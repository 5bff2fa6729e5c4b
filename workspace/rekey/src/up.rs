//! `rekey up`: every worker in one process.

use anyhow::Context;
use rekey_messages::{Event, KeyringChanged};
use rekey_operations::Services;
use rekey_store::{WorkerLock, leases};
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::embedded::App;

const REPORT_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// All workers, running.
pub struct Engine {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _lock: Option<WorkerLock>,
}

impl Engine {
    /// Starts all workers. On SQLite this process is the only one that works, so whatever an earlier
    /// one held is taken up at once.
    pub async fn start(app: &App) -> anyhow::Result<Self> {
        let lock = take_over(&app.services).await?;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (services, transport) = (app.services.clone(), app.transport.clone());
        tasks.spawn(listen(
            services.clone(),
            rekey_broker::Transport::broadcasts(&*transport),
        ));
        tasks.spawn(report(services.clone(), shutdown.clone()));
        {
            let (transport, shutdown) = (transport.clone(), shutdown.clone());
            tasks.spawn(async move { transport.run(shutdown).await });
        }
        let scheduler = rekey_scheduler::Deps {
            services: services.clone(),
        };
        tasks.spawn(rekey_scheduler::run(scheduler, shutdown.clone()));
        let rotator = rekey_rotator::Deps {
            services: services.clone(),
            transport: transport.clone(),
            requesters: app.requesters.clone(),
        };
        tasks.spawn(rekey_rotator::run(rotator, shutdown.clone()));
        let re_encryptor = rekey_re_encryptor::Deps {
            services,
            transport,
            slots: slots(),
        };
        tasks.spawn(rekey_re_encryptor::run(re_encryptor, shutdown.clone()));
        Ok(Self {
            tasks,
            shutdown,
            _lock: lock,
        })
    }

    /// Has every worker end what it is at, within a deadline.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let drained = async {
            // The listener has no end of its own.
            while self.tasks.len() > 1 {
                self.tasks.join_next().await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(25), drained)
            .await
            .is_err()
        {
            tracing::warn!("workers did not end in time; a restart goes on where they stopped");
        }
        self.tasks.abort_all();
    }
}

/// Batches worked on at once: more than there are processors only makes each wait for the others.
fn slots() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2))
}

async fn take_over(services: &Services) -> anyhow::Result<Option<WorkerLock>> {
    let Some(file) = services.store.sqlite_file() else {
        return Ok(None);
    };
    let lock = WorkerLock::take(&file)?;
    let unit = services.store.begin(services.clock.now()).await?;
    leases::end_all(&unit, &lock).await?;
    unit.commit().await?;
    Ok(Some(lock))
}

/// A changed keyring ends this process's right to encrypt under the old key at once.
pub async fn listen(services: Services, mut broadcasts: broadcast::Receiver<Event>) {
    loop {
        match broadcasts.recv().await {
            Ok(event) => {
                if let Ok(KeyringChanged { keyring }) = event.message() {
                    services.client.keyring_changed(&keyring);
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// What this process did with keys goes into the audit log every minute, and when it ends.
async fn report(services: Services, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
        if let Err(error) = services.client.flush().await {
            tracing::warn!(%error, "uses of keys are reported later");
        }
    }
}

/// Runs all workers until SIGTERM or Ctrl-C.
pub async fn run(app: &App) -> anyhow::Result<()> {
    let engine = Engine::start(app).await?;
    tracing::info!("workers are running; backups of keys are off until they are built");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
    engine.stop().await;
    Ok(())
}
