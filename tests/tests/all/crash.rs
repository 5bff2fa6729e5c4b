//! `kill -9` at every crash point, then a restart: the rotation ends as if nothing had happened.

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_runtime::crash;
use rekey_testkit::rekey_binary;

use crate::clinic::{Clinic, PATIENCE};

const SIGABRT: i32 = 6;

#[test]
fn killed_at_any_crash_point_a_rotation_still_ends_and_nothing_is_done_twice() {
    let binary = rekey_binary();
    let points = Arc::new(Mutex::new(crash::POINTS.iter().rev().collect::<Vec<_>>()));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let points = points.clone();
            std::thread::spawn(move || {
                loop {
                    let Some(point) = points.lock().unwrap().pop() else {
                        return;
                    };
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(survives(binary, point));
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

async fn survives(binary: &Path, point: &str) {
    let clinic = Clinic::new().await;
    clinic.ask().await;
    let mut doomed = up(&clinic, binary, Some(point));
    let status = tokio::task::spawn_blocking(move || wait(&mut doomed))
        .await
        .unwrap();
    let status = status.unwrap_or_else(|| panic!("crash point {point} was never reached"));
    assert_eq!(
        status.signal(),
        Some(SIGABRT),
        "{point}: ended by itself, {status}"
    );
    clinic.assert_readable(point).await;

    let mut restarted = up(&clinic, binary, None);
    clinic.wait_until_completed(point).await;
    clinic.assert_whole(point).await;
    Command::new("kill")
        .args(["-TERM", &restarted.id().to_string()])
        .status()
        .unwrap();
    let status = tokio::task::spawn_blocking(move || wait(&mut restarted))
        .await
        .unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{point}: SIGTERM did not end it well"
    );
}

/// Waits for the end of a process; `None`, and the end of it, when that takes too long.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    None
}

fn up(clinic: &Clinic, binary: &Path, crash_at: Option<&str>) -> Child {
    let mut command = Command::new(binary);
    command
        .arg("--state-dir")
        .arg(clinic.dir.path())
        .arg("up")
        .current_dir(clinic.dir.path());
    command
        .env("REKEY_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(point) = crash_at {
        command.env("REKEY_CRASH_AT", point);
    }
    command.spawn().unwrap()
}
