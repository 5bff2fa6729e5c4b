//! What a process says of itself: what it needs and has not, and its gauges.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rekey_broker::Transport;
use rekey_domain::{RotationState, Worker};
use rekey_operations::{
    OperationError, ProtectedTable, Services, protected_tables, store_rights as rights_at_store,
};
use rekey_runtime::{
    Asked,
    health::{Need, Probe},
    metrics as names,
};
use rekey_store::{database_time, gauges, rights};

/// How often the KMS is asked at most, however often we are asked, as it costs money and has limits.
const KMS_EVERY: Duration = Duration::from_secs(30);
/// Shorter than the asker waits, so that the answer can tell which need is missing.
const STORE_ANSWERS: Duration = Duration::from_secs(2);
/// Rights change seldom, and someone who grants a missing one should see it soon.
const RIGHTS_EVERY: Duration = Duration::from_secs(10);

/// The kinds of leases: what stands before the first slash of a name.
const LEASES: [&str; 3] = ["scheduler", "rotation", "batch"];

/// Looks at a process: first at why it does not start yet, then at what it works with.
#[derive(Default)]
pub struct ProcessProbe {
    state: Mutex<State>,
    kms: Asked<Option<String>>,
    store_rights: Asked<Option<String>>,
    sources: Asked<Vec<Need>>,
}

enum State {
    Starting(String),
    Running(Arc<Running>),
}

impl Default for State {
    fn default() -> Self {
        Self::Starting("has just been started".to_owned())
    }
}

struct Running {
    services: Services,
    transport: Arc<dyn Transport>,
    workers: Vec<Worker>,
}

impl ProcessProbe {
    /// The process does not start yet, because of this.
    pub fn starting(&self, problem: &OperationError) {
        *self.state() = State::Starting(problem.to_string());
    }

    /// The process runs, and does the work of these.
    pub fn running(&self, services: Services, transport: Arc<dyn Transport>, workers: Vec<Worker>) {
        let running = Running {
            services,
            transport,
            workers,
        };
        *self.state() = State::Running(Arc::new(running));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn found(&self) -> Result<Arc<Running>, String> {
        match &*self.state() {
            State::Starting(problem) => Err(problem.clone()),
            State::Running(running) => Ok(running.clone()),
        }
    }
}

#[async_trait]
impl Probe for ProcessProbe {
    async fn needs(&self) -> Vec<Need> {
        let running = match self.found() {
            Ok(running) => running,
            Err(problem) => return vec![need("start", Some(problem))],
        };
        let Running {
            services,
            transport,
            workers,
        } = &*running;
        // Not its schema: a newer one only expands ours, and a program that runs goes on.
        let store = tokio::time::timeout(STORE_ANSWERS, database_time(services.store.db())).await;
        let store_is_there = matches!(store, Ok(Ok(_)));
        let problem = match store {
            Err(_) => Some(format!("no answer within {} s", STORE_ANSWERS.as_secs())),
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(_)) => {
                let rights = store_rights(running.clone());
                self.store_rights.or(RIGHTS_EVERY, rights).await
            }
        };
        let mut needs = vec![
            need("store", problem),
            need("broker", transport.health().err()),
        ];
        if !workers.iter().any(|worker| worker.uses_keys()) {
            return needs;
        }
        let kms = self.kms.or(KMS_EVERY, kms(running.clone())).await;
        needs.push(need("kms", kms));
        if store_is_there {
            let sources = sources(running.clone());
            needs.extend(self.sources.or(RIGHTS_EVERY, sources).await);
        }
        needs
    }

    async fn sample(&self) {
        let Ok(running) = self.found() else { return };
        let Ok(gauges) = gauges::read(running.services.store.db()).await else {
            return;
        };
        metrics::gauge!(names::OUTBOX_DEPTH).set(gauges.outbox as f64);
        metrics::gauge!(names::OUTBOX_AGE).set(gauges.outbox_age);
        metrics::gauge!(names::ROTATIONS_PAUSED).set(gauges.paused as f64);
        // A lease that is gone is set to zero, or its last age would stay for ever.
        for kind in LEASES {
            let age = gauges.lease_ages.get(kind).copied().unwrap_or_default();
            metrics::gauge!(names::LEASE_AGE, "kind" => kind).set(age);
        }
        for state in RotationState::ALL.map(|state| state.to_string()) {
            let rotations = gauges.rotations.get(&state).copied().unwrap_or_default();
            metrics::gauge!(names::ROTATIONS, "state" => state).set(rotations as f64);
        }
        for (queue, depth) in running.transport.depths().await {
            metrics::gauge!(names::QUEUE_DEPTH, "queue" => queue.to_string()).set(depth as f64);
        }
    }
}

fn need(name: &str, problem: Option<String>) -> Need {
    Need {
        name: name.to_owned(),
        problem,
    }
}

async fn kms(running: Arc<Running>) -> Option<String> {
    running.services.kms_problem().await
}

async fn store_rights(running: Arc<Running>) -> Option<String> {
    let of_each = running.workers.iter();
    let rights: Vec<_> = of_each
        .flat_map(|worker| rights_at_store::rights((*worker).into()))
        .collect();
    let checked = rights::check(running.services.store.db(), &rights).await;
    checked.err().map(|error| error.to_string())
}

/// Each source with the first thing that it lacks: its answer, a table, a right on one.
async fn sources(running: Arc<Running>) -> Vec<Need> {
    let services = &running.services;
    let tables = match protected_tables(services).await {
        Ok(tables) => tables,
        Err(error) => return vec![need("sources", Some(error.to_string()))],
    };
    let mut needs: Vec<Need> = Vec::new();
    for table in tables {
        let name = format!("source {}", table.source.name);
        let known = needs.iter_mut().find(|need| need.name == name);
        if known.as_ref().is_some_and(|need| need.problem.is_some()) {
            continue;
        }
        let mut problem = None;
        for worker in &running.workers {
            let looked = look_at(&table, *worker, services).await;
            problem = problem.or(looked.err().map(|error| error.to_string()));
        }
        match known {
            Some(known) => known.problem = problem,
            None => needs.push(need(&name, problem)),
        }
    }
    needs
}

async fn look_at(
    table: &ProtectedTable,
    worker: Worker,
    services: &Services,
) -> Result<(), OperationError> {
    let Some(rights) = table.rights(worker.into(), services).await? else {
        return Ok(());
    };
    let source = services.source(&table.source).await?;
    Ok(source.check_rights(&rights).await?)
}
