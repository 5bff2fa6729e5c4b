//! Which workers give signs of life, which are missing, and what those that work lack.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{Principal, Worker};
use rekey_store::{
    backups::destinations,
    channels,
    heartbeats::{self, Heartbeat},
};
use serde::Serialize;

use crate::{Action, OperationError, Services, authorise};

/// A worker that gave no sign for so long does not work: three signs and a little.
const SILENT: Duration = Duration::from_secs(10);

/// A worker as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerView {
    /// Which.
    pub worker: String,
    /// Where it runs: host and process.
    pub place: String,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it gave its last sign of life.
    pub seen_at: Option<DateTime<Utc>>,
    /// Whether that is long ago.
    pub silent: bool,
    /// What it needs and has not.
    pub lacks: Option<String>,
    /// Which things these are, as `source/clinic`; an older program does not say it.
    #[serde(skip)]
    pub misses: Vec<String>,
}

/// Every worker that gave a sign of life in the last day and did not end as it should.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn worker_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<WorkerView>, OperationError> {
    authorise(principal, Action::ReadWorkers)?;
    Ok(all(services).await?)
}

pub(crate) async fn all(services: &Services) -> Result<Vec<WorkerView>, rekey_store::StoreError> {
    let (beats, now) = heartbeats::all(services.store.db()).await?;
    Ok(beats.into_iter().map(|beat| view(beat, now)).collect())
}

fn view(beat: Heartbeat, now: i64) -> WorkerView {
    // What is dated ahead would be a sign of life for as long.
    let age = u64::try_from(now.saturating_sub(beat.seen_at));
    let silent = age.map_or(true, |millis| Duration::from_millis(millis) > SILENT);
    WorkerView {
        worker: beat.worker,
        place: beat.place,
        started_at: DateTime::from_timestamp_millis(beat.started_at),
        seen_at: DateTime::from_timestamp_millis(beat.seen_at),
        silent,
        lacks: beat.lacks,
        misses: beat.misses.map_or_else(Vec::new, |misses| {
            misses.split(' ').map(str::to_owned).collect()
        }),
    }
}

/// Whether a worker of this kind gave a sign of life lately.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn works(services: &Services, worker: Worker) -> Result<bool, OperationError> {
    let views = all(services).await?;
    let mut of_kind = views.iter().filter(|view| view.worker == worker.name());
    Ok(of_kind.any(|view| !view.silent))
}

/// What is wrong with the workers, a sentence each; empty: all work and lack nothing.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn worker_problems(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<String>, OperationError> {
    authorise(principal, Action::ReadWorkers)?;
    Ok(problems(services, &all(services).await?).await?)
}

/// The workers that a deployment needs: a notifier only where there is somebody to tell, a verifier only where bundles
/// are kept.
pub(crate) async fn needed(services: &Services) -> Result<Vec<Worker>, rekey_store::StoreError> {
    let db = services.store.db();
    let tells = !channels::all(db).await?.is_empty();
    let backs_up = !destinations::all(db).await?.is_empty();
    let all = Worker::ALL.into_iter();
    Ok(all
        .filter(|worker| match worker {
            Worker::IncidentNotifier => tells,
            Worker::BackupVerifier => backs_up,
            _ => true,
        })
        .collect())
}

pub(crate) async fn problems(
    services: &Services,
    views: &[WorkerView],
) -> Result<Vec<String>, rekey_store::StoreError> {
    let needed = needed(services).await?;
    let missing = needed.iter().map(|worker| worker.name()).filter(|name| {
        let mut of_kind = views.iter().filter(|view| view.worker == *name);
        of_kind.all(|view| view.silent)
    });
    let missing: Vec<_> = missing.collect();
    let mut problems = Vec::new();
    if missing.len() == needed.len() {
        problems.push(format!(
            "no worker runs{}: start rekey up, or rekey-scheduler, rekey-rotator and rekey-re-encryptor; if they run, the store takes no writes from them: see their logs, its disk, and whether it is read-only or locked",
            last_seen(views.first())
        ));
    } else {
        problems.extend(missing.into_iter().map(|name| {
            let last = views.iter().find(|view| view.worker == name);
            let start = match services.store.sqlite_file() {
                Some(_) => "start rekey up again".to_owned(),
                None => format!("start rekey-{name}"),
            };
            format!("no {name} runs{}: {start}", last_seen(last))
        }));
    }
    // What one process lacks, all its workers do.
    let lacking = views.iter().filter(|view| !view.silent);
    for (view, lacks) in lacking.filter_map(|view| Some((view, view.lacks.as_ref()?))) {
        let problem = format!("the worker at {} lacks: {lacks}", view.place);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    Ok(problems)
}

/// The same, without workers that lack nothing but other sources than these.
pub(crate) async fn problems_with(
    services: &Services,
    sources: &[&str],
) -> Result<Vec<String>, rekey_store::StoreError> {
    let mut views = all(services).await?;
    for view in &mut views {
        let concerns = |thing: &String| {
            let source = thing.strip_prefix("source/");
            source.is_none_or(|source| sources.contains(&source))
        };
        if !view.misses.is_empty() && !view.misses.iter().any(concerns) {
            view.lacks = None;
        }
    }
    problems(services, &views).await
}

/// Who ended as it should left no sign: it may have been there later.
fn last_seen(view: Option<&WorkerView>) -> String {
    let seen = view.and_then(|view| Some((&view.place, view.seen_at?)));
    seen.map_or_else(String::new, |(place, at)| {
        let at = at.format("%Y-%m-%d %H:%M:%S UTC");
        format!(" (of those that did not end as they should the last sign of life was at {at}, of {place})")
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_comes_from_the_future_is_no_sign_of_life() {
        let now = 1_764_500_000_000;
        let is_silent = |seen_at| {
            let beat = Heartbeat {
                id: Uuid::nil(),
                worker: "scheduler".to_owned(),
                place: "here".to_owned(),
                started_at: 0,
                seen_at,
                lacks: None,
                misses: None,
            };
            view(beat, now).silent
        };
        assert_eq!([now, now - 9_000].map(is_silent), [false; 2]);
        let odd = [now - 11_000, now + 60_000, i64::MAX, i64::MIN];
        assert_eq!(odd.map(is_silent), [true; 4]);
    }
}
