//! `rekey up`: every worker in one process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use rekey_deployment::{
    ProcessProbe, background, follow_and_report,
    program::{as_many_as_processors, serve},
};
use rekey_domain::Worker;
use rekey_operations::Services;
use rekey_runtime::shutdown;
use rekey_store::{WorkerLock, leases};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Longer than each worker takes to end what it is at.
const ENDED_WITHIN: Duration = Duration::from_secs(25);

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
        tasks.spawn(background(
            services.client.clone(),
            transport.clone(),
            shutdown.clone(),
        ));
        let monitoring = app.places.monitoring();
        let scheduler = rekey_scheduler::Deps {
            services: services.clone(),
            expiration_warning: monitoring.expiration_warning,
        };
        tasks.spawn(rekey_scheduler::run(scheduler, shutdown.clone()));
        let rotator = rekey_rotator::Deps {
            services: services.clone(),
            transport: transport.clone(),
            requesters: app.places.requesters(),
        };
        tasks.spawn(rekey_rotator::run(rotator, shutdown.clone()));
        let notifier = rekey_incident_notifier::Deps {
            services: services.clone(),
            channels: app.desired.channels.clone(),
            monitoring,
        };
        tasks.spawn(rekey_incident_notifier::run(notifier, shutdown.clone()));
        let verifier = rekey_backup_verifier::Deps::new(services.clone(), &app.places.monitoring());
        tasks.spawn(rekey_backup_verifier::run(verifier, shutdown.clone()));
        // A client of its own, as the encryptions it makes are counted apart.
        let services = services.acting_as(&Worker::ReEncryptor.principal());
        let (client, tended) = (services.client.clone(), transport.clone());
        let until = shutdown.clone();
        tasks.spawn(async move { follow_and_report(client, tended.as_ref(), until).await });
        let re_encryptor = rekey_re_encryptor::Deps {
            services,
            transport,
            slots: usize::from(as_many_as_processors()),
        };
        tasks.spawn(rekey_re_encryptor::run(re_encryptor, shutdown.clone()));
        Ok(Self {
            tasks,
            shutdown,
            _lock: lock,
        })
    }

    /// Until a worker ends by itself, which it never should.
    async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow!("a worker ended: {error}; start rekey up again"),
            _ => anyhow!("a worker ended; start rekey up again"),
        }
    }

    /// Has every worker end what it is at, within a deadline.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDED_WITHIN, ended).await.is_err() {
            tracing::warn!("workers did not end in time; a restart goes on where they stopped");
        }
        self.tasks.abort_all();
    }
}

async fn take_over(services: &Services) -> anyhow::Result<Option<WorkerLock>> {
    let Some(file) = services.store.sqlite_file() else {
        return Ok(None);
    };
    let lock = WorkerLock::take(&file)?;
    let unit = services.store.begin().await?;
    leases::end_all(&unit, &lock).await?;
    unit.commit().await?;
    Ok(Some(lock))
}

/// Runs all workers until SIGTERM or Ctrl-C, and says at `listen` how they are.
pub async fn run(app: &App, listen: SocketAddr) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen at {listen}"))?;
    let place = listener.local_addr()?;
    let probe = Arc::new(ProcessProbe::default());
    let (services, transport) = (app.services.clone(), app.transport.clone());
    probe.running(services, transport, Worker::ALL.to_vec());
    let serving = serve(listener, probe, &shutdown);
    let mut engine = Engine::start(app).await?;
    tracing::info!(listen = %place, "workers are running");
    let broken = tokio::select! {
        () = shutdown.cancelled() => None,
        // Half of the workers would look like all of them to whoever asks.
        broken = engine.broken() => Some(broken),
    };
    shutdown.cancel();
    engine.stop().await;
    serving.await?;
    broken.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn broken(worker: impl Future<Output = ()> + Send + 'static) -> String {
        let mut engine = Engine {
            tasks: JoinSet::new(),
            shutdown: CancellationToken::new(),
            _lock: None,
        };
        engine.tasks.spawn(std::future::pending());
        engine.tasks.spawn(worker);
        engine.broken().await.to_string()
    }

    #[tokio::test]
    async fn one_worker_that_ends_or_panics_is_told_though_the_others_go_on() {
        let says = "a worker ended";
        assert!(broken(async {}).await.starts_with(says));
        let panicked = broken(async { panic!("a defect") }).await;
        assert!(panicked.starts_with(says), "{panicked}");
    }
}
