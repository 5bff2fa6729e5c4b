//! `kill -9` at every crash point, then a restart: the rotation ends as if nothing had happened.

use std::{
    future::Future,
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex},
};

use rekey_domain::{KeyringPolicy, RotationReason};
use rekey_messages::RotationRequested;
use rekey_operations::{Services, verify_audit};
use rekey_runtime::crash;
use rekey_testkit::program;

use rekey_tests::{
    process::Process,
    support::{Deployment, operator, phi, short, until},
};

pub const SIGABRT: i32 = 6;
/// Processes killed and restarted at once.
const AT_ONCE: usize = 3;

#[test]
fn killed_at_any_crash_point_a_rotation_still_ends_and_nothing_is_done_twice() {
    at_each(points(), survives);
}

/// Those that a rotation passes; the others have tests of their own.
pub fn points() -> impl Iterator<Item = &'static &'static str> {
    let of_rotations = ["worker.", "scheduler.", "rotator.", "re-encryptor."];
    let passes = move |point: &&&str| of_rotations.iter().any(|who| point.starts_with(who));
    crash::POINTS.iter().filter(passes)
}

/// Tries each point, some at once.
pub fn at_each<F: Future>(
    points: impl IntoIterator<Item = &'static &'static str>,
    survives: impl Fn(&'static str) -> F + Copy + Send + 'static,
) {
    // Built before anybody waits for it.
    program("rekey");
    let points: Vec<_> = points.into_iter().collect();
    let points = Arc::new(Mutex::new(points));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let points = points.clone();
            std::thread::spawn(move || {
                loop {
                    let Some(point) = points.lock().unwrap().pop() else {
                        return;
                    };
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(survives(point));
                }
            })
        })
        .collect();
    let failures = workers
        .into_iter()
        .filter_map(|worker| worker.join().err())
        .count();
    assert_eq!(failures, 0, "see above which points");
}

/// A clinic whose rotation takes several batches, some at once, so that each point is passed.
pub async fn in_many_batches() -> Deployment {
    let policy = KeyringPolicy {
        batch_rows: 25,
        concurrency: 3,
        ..short()
    };
    Deployment::with(120, policy).await
}

/// Kills a process of the whole at a point.
pub async fn dies_at(point: &str, clinic: &Deployment) {
    let mut doomed = Process::up(&clinic.disks, Some(point));
    let status = doomed.end().await;
    let status = status.unwrap_or_else(|| panic!("crash point {point} was never reached"));
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
    clinic.assert_reads_back().await;
}

#[expect(
    clippy::print_stdout,
    reason = "a failure is read with its crash point"
)]
async fn survives(point: &'static str) {
    println!("crash point {point}");
    let clinic = in_many_batches().await;
    ask_for_a_ghost(&clinic.services).await;
    clinic.rotate(&phi()).await;
    dies_at(point, &clinic).await;

    let restarted = Process::up(&clinic.disks, None);
    let view = clinic.completes().await;
    clinic.assert_rotated_once().await;
    assert_eq!(
        view.moved,
        clinic.values(),
        "{point}: a kill loses no figure"
    );
    until("the ghost's letter", async || {
        (clinic.count("SELECT count(*) FROM dead_letter").await > 0).then_some(())
    })
    .await;
    restarted.terminate().await;
    let letters = clinic.count("SELECT count(*) FROM dead_letter").await;
    assert_eq!(letters, 1, "{point}: only the ghost's, once");
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new(), "{point}");
}

/// A request for a keyring that is not there, so that a handler fails.
pub async fn ask_for_a_ghost(services: &Services) {
    let unit = services.store.begin().await.unwrap();
    let ghost = RotationRequested::of_all("ghost".parse().unwrap(), RotationReason::Request);
    unit.send(&ghost).await.unwrap();
    unit.commit().await.unwrap();
}
