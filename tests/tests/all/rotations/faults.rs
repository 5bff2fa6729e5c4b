//! What a full disk, a source that may not be written and a stop in the middle of a batch do: nothing is lost.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rekey_domain::{KeyringPolicy, RotationState};
use rekey_operations::{resume_rotation, rotate};

use rekey_tests::{
    process::Process,
    support::{Deployment, Disks, Engine, operator, phi, short, until},
};

/// A small disk of its own under a directory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this account may not mount one, which is said loudly.
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
    fn at(directory: PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"]);
        if mount.arg(&directory).status().is_ok_and(|it| it.success()) {
            return Some(Self(directory));
        }
        eprintln!("NOT TESTED: only root may mount a small disk to fill");
        None
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let source = Path::new("/dev/zero");
        let full = Command::new("cp").arg(source).arg(&ballast).output();
        let said = String::from_utf8(full.unwrap().stderr).unwrap();
        assert!(said.contains("No space left"), "{said}");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_store_takes_no_request_and_goes_on_when_there_is_space() {
    let disks = Disks::new();
    let Some(small) = SmallDisk::at(disks.state("")) else {
        return;
    };
    let clinic = Deployment::on(disks, 150, short()).await;
    let engine = Engine::start(&clinic.services);
    let ballast = small.fill();
    // What is already set aside for the log may still take a few requests.
    let refused = until("a request that is refused", async || {
        let reason = rekey_domain::RotationReason::Request;
        let asked = rotate(&clinic.services, &phi(), reason, &operator()).await;
        asked.err()
    })
    .await;
    assert!(refused.is_retryable(), "{refused}");
    assert!(refused.to_string().contains("disk"), "{refused}");
    let before = clinic.count("SELECT count(*) FROM audit_entry").await;

    std::fs::remove_file(ballast).unwrap();
    clinic.rotate(&phi()).await;
    clinic.completes().await;
    clinic.has_a_new_standby().await;
    clinic.assert_reads_back().await;
    engine.stop().await;
    assert!(clinic.count("SELECT count(*) FROM audit_entry").await > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_of_its_source_a_rotation_waits_and_goes_on_when_there_is_space() {
    let disks = Disks::new();
    let Some(small) = SmallDisk::at(disks.clinic("")) else {
        return;
    };
    let clinic = Deployment::on(disks, 600, short()).await;
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    sqlx::query(checkpoint)
        .execute(&clinic.source)
        .await
        .unwrap();
    let ballast = small.fill();
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let waiting = "SELECT count(*) FROM outbox WHERE type = 'rekey.batch.ready.v1' AND available_at > unixepoch('subsec') * 1000 + 1000";
    until("a batch that waits", async || {
        (clinic.count(waiting).await > 0).then_some(())
    })
    .await;
    clinic.assert_reads_back().await;
    std::fs::remove_file(ballast).unwrap();
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_may_not_be_written_puts_the_rotation_on_hold_and_says_what_to_do() {
    let clinic = Deployment::of(120).await;
    let rows = clinic.patients().await;
    let read_only =
        "UPDATE source SET url = replace(url, 'mode=rw', 'mode=ro') WHERE name = 'clinic'";
    assert_eq!(clinic.in_store(read_only).await, 1);
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let (id, why) = until("the rotation on hold", async || {
        let view = clinic.rotation(&phi()).await?;
        Some((view.id, view.paused_because?))
    })
    .await;
    assert!(why.contains("source.db is read-only"), "{why}");
    assert!(why.contains("give this process the right"), "{why}");
    assert_eq!(clinic.patients().await, rows);

    let writable =
        "UPDATE source SET url = replace(url, 'mode=ro', 'mode=rw') WHERE name = 'clinic'";
    clinic.in_store(writable).await;
    let resumed = resume_rotation(&clinic.services, id, &operator()).await;
    resumed.unwrap();
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_a_batch_end_and_a_restart_goes_on() {
    let policy = KeyringPolicy {
        batch_rows: 500,
        ..short()
    };
    let clinic = Deployment::with(2_000, policy).await;
    clinic.rotate(&phi()).await;
    let stopped = Process::up(&clinic.disks, None);
    a_batch_is_worked_on(&clinic).await;
    stopped.terminate().await;
    // Nobody holds what an ended process left behind.
    assert_eq!(clinic.count("SELECT count(*) FROM lease").await, 0);
    clinic.assert_reads_back().await;
    let restarted = Process::up(&clinic.disks, None);
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    restarted.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_a_process_whose_batch_cannot_end_within_its_deadline() {
    let clinic = Deployment::of(400).await;
    clinic.rotate(&phi()).await;
    let mut stuck = Process::up(&clinic.disks, None);
    until("the switch", async || {
        let view = clinic.rotation(&phi()).await?;
        (view.state == RotationState::ReEncrypting).then_some(())
    })
    .await;
    let mut application = clinic.source.acquire().await.unwrap();
    let lock = sqlx::query("BEGIN IMMEDIATE").execute(&mut *application);
    lock.await.unwrap();
    let left = clinic.under_old().await;
    a_batch_is_worked_on(&clinic).await;
    stuck.signal("TERM");
    let asked = Instant::now();
    let status = stuck.end().await.expect("it ends, whatever its batch does");
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(30));
    assert_eq!(clinic.under_old().await, left);

    let free = sqlx::query("ROLLBACK").execute(&mut *application);
    free.await.unwrap();
    let restarted = Process::up(&clinic.disks, None);
    clinic.completes().await;
    clinic.assert_rotated_once().await;
    restarted.terminate().await;
}

async fn a_batch_is_worked_on(clinic: &Deployment) {
    let leased = "SELECT count(*) FROM lease WHERE name LIKE 'batch/%'";
    until("a batch being worked on", async || {
        (clinic.count(leased).await > 0).then_some(())
    })
    .await;
}
