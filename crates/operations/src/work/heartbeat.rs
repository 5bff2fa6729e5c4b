//! A worker's sign of life in the store, with what it lacks, so that whoever looks need not ask each process.

use std::{sync::Mutex, time::Duration};

use futures::future::join_all;
use rekey_broker::Transport;
use rekey_domain::Worker;
use rekey_runtime::{Asked, hostname};
use rekey_sources::SourceError;
use rekey_store::{
    StoreError, columns,
    heartbeats::{self, Lacks, Process},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{OperationError, Services};

const EVERY: Duration = Duration::from_secs(3);
/// Something that is missing now, such as a connection at the start, may be there after this time; what is not is away.
const SOON: Duration = Duration::from_millis(500);
const LOOKS_SOON: u32 = 20;
/// A KMS costs money and has limits.
const KMS_EVERY: Duration = Duration::from_secs(30);
/// What does not answer by then is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Beats until `shutdown`.
pub async fn beat(
    services: &Services,
    worker: Worker,
    transport: Option<&dyn Transport>,
    shutdown: &CancellationToken,
) {
    let beating = Process {
        id: Uuid::now_v7(),
        worker: worker.name(),
        place: format!("{}#{}", hostname(), std::process::id()),
    };
    let lacks = Mutex::new(Lacks::default());
    let changed = Notify::new();
    let looking = look(services, worker, transport, &lacks, &changed);
    let signs = async {
        loop {
            let changed = changed.notified();
            let lacks = lacks.lock().expect("no holder panics").clone();
            if let Err(error) = sign(services, &beating, &lacks).await {
                tracing::debug!(%error, "no sign of life");
            }
            let _ = tokio::time::timeout(EVERY, changed).await;
        }
    };
    shutdown
        .run_until_cancelled(async { tokio::join!(signs, looking) })
        .await;
    if let Err(error) = end(services, &beating).await {
        tracing::debug!(%error, "the last sign of life stays");
    }
}

async fn sign(services: &Services, beating: &Process, lacks: &Lacks) -> Result<(), StoreError> {
    let unit = services.store.begin_forgettable().await?;
    heartbeats::beat(&unit, beating, lacks).await?;
    unit.commit().await
}

async fn end(services: &Services, beating: &Process) -> Result<(), StoreError> {
    let unit = services.store.begin_forgettable().await?;
    heartbeats::end(&unit, beating).await?;
    unit.commit().await
}

/// Beside the signs, which do not wait for what does not answer.
async fn look(
    services: &Services,
    worker: Worker,
    transport: Option<&dyn Transport>,
    lacks: &Mutex<Lacks>,
    changed: &Notify,
) {
    let kms = Asked::default();
    let mut soon = LOOKS_SOON;
    loop {
        let mut missing = Vec::new();
        let broker = transport.and_then(|transport| transport.health().err());
        missing.extend(broker.map(|problem| ("broker".to_owned(), problem)));
        if worker.uses_keys() {
            let asked = services.clone();
            let asking = async move { asked.kms_problem().await };
            let problem = kms.or(KMS_EVERY, asking).await;
            missing.extend(problem.map(|problem| ("kms".to_owned(), problem)));
            missing.extend(sources(services, worker).await);
        }
        let (things, said): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        let found = Lacks {
            said: (!said.is_empty()).then(|| said.join("; ")),
            things,
        };
        soon = if found.said.is_some() {
            soon.saturating_sub(1)
        } else {
            LOOKS_SOON
        };
        let again = if found.said.is_some() && soon > 0 {
            SOON
        } else {
            EVERY
        };
        let before =
            std::mem::replace(&mut *lacks.lock().expect("no holder panics"), found.clone());
        if before != found {
            changed.notify_one();
        }
        tokio::time::sleep(again).await;
    }
}

/// Each source that does not answer, and why it cannot be reached. `/readyz` checks what we may do there.
async fn sources(services: &Services, worker: Worker) -> Vec<(String, String)> {
    let Ok(sources) = columns::sources(services.store.db()).await else {
        return Vec::new();
    };
    let asked = sources.iter().map(|source| async {
        let answered = tokio::time::timeout(PATIENCE, reach(services, source, worker)).await;
        let problem = match answered {
            Ok(answered) => answered.err()?.to_string(),
            Err(_) => SourceError::OutOfReach {
                database: source.name.clone(),
                reason: format!("no answer within {} s", PATIENCE.as_secs()),
            }
            .to_string(),
        };
        let thing = format!("source/{}", source.name);
        Some((thing, format!("source {}: {problem}", source.name)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn reach(
    services: &Services,
    source: &columns::Source,
    worker: Worker,
) -> Result<(), OperationError> {
    let open = services.source(source).await?;
    open.deadline(Duration::ZERO).await?;
    if worker == Worker::ReEncryptor {
        open.takes_writes().await?;
    }
    Ok(())
}
