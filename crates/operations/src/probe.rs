//! What a process says of itself: what it needs and has not, and its gauges.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rekey_broker::Transport;
use rekey_domain::RotationState;
use rekey_runtime::{
    health::{Need, Probe},
    metrics as names,
};
use rekey_store::{columns, database_time, gauges};

use crate::{OperationError, STORE_SOURCE, Services};

/// A KMS costs money and has limits: it is asked at most so often, however often we are.
const KMS_EVERY: Duration = Duration::from_secs(30);

/// The kinds of leases: what stands before the first slash of a name.
const LEASES: [&str; 3] = ["scheduler", "rotation", "batch"];

/// Looks at a process: first at why it does not start yet, then at what it works with.
#[derive(Default)]
pub struct ProcessProbe {
    state: Mutex<State>,
    kms: Mutex<Option<(Instant, Option<String>)>>,
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
    uses_keys: bool,
}

impl ProcessProbe {
    /// The process does not start yet, because of this.
    pub fn starting(&self, problem: &OperationError) {
        *self.state() = State::Starting(problem.to_string());
    }

    /// The process runs; `uses_keys` where it needs the KMS and the sources too.
    pub fn running(&self, services: Services, transport: Arc<dyn Transport>, uses_keys: bool) {
        let running = Running {
            services,
            transport,
            uses_keys,
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

    async fn kms(&self, running: &Running) -> Option<String> {
        let known = self.kms.lock().expect("no holder panics").clone();
        if let Some((asked, problem)) = known
            && asked.elapsed() < KMS_EVERY
        {
            return problem;
        }
        let problem = match running.services.kms.describe().await {
            Ok(master_key) if master_key.state == rekey_kms::MasterKeyState::Enabled => None,
            Ok(master_key) => Some(format!(
                "master key {} is {}",
                master_key.id, master_key.state
            )),
            Err(error) => Some(error.to_string()),
        };
        *self.kms.lock().expect("no holder panics") = Some((Instant::now(), problem.clone()));
        problem
    }
}

#[async_trait]
impl Probe for ProcessProbe {
    async fn needs(&self) -> Vec<Need> {
        let running = match self.found() {
            Ok(running) => running,
            Err(problem) => return vec![need("start", Some(problem))],
        };
        // Not its schema: a newer one only expands ours, and a program that runs goes on.
        let store = database_time(running.services.store.db()).await;
        let store_is_there = store.is_ok();
        let mut needs = vec![
            need("store", store.err().map(|error| error.to_string())),
            need("broker", running.transport.health().err()),
        ];
        if running.uses_keys {
            needs.push(need("kms", self.kms(&running).await));
        }
        if running.uses_keys && store_is_there {
            needs.extend(sources(&running.services).await);
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
        // What is no longer there is said to be zero, or it would be believed for ever.
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

async fn sources(services: &Services) -> Vec<Need> {
    let all = match columns::all(services.store.db()).await {
        Ok(columns) => columns,
        Err(error) => return vec![need("sources", Some(error.to_string()))],
    };
    let mut needs: Vec<Need> = Vec::new();
    for column in all {
        let name = format!("source {}", column.source.name);
        if column.source.name == STORE_SOURCE || needs.iter().any(|need| need.name == name) {
            continue;
        }
        let answers = async {
            let source = services.source(&column.source).await?;
            Ok::<_, OperationError>(source.deadline(Duration::ZERO).await?)
        };
        needs.push(need(
            &name,
            answers.await.err().map(|error| error.to_string()),
        ));
    }
    needs
}
