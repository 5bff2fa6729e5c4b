//! `kill -9` at every crash point of an emergency, then a restart: the key is stopped, nothing is left under it, and every value is read.

use rekey_domain::{Found, RotationState};
use rekey_operations::{Report, report_compromise, rotation_view, verify_audit};
use rekey_tests::{
    process::Process,
    support::{Deployment, operator, phi, until},
};

use crate::rotations::crash::{
    ask_for_a_ghost, at_each, dies_at, in_many_batches, points as rotations_points,
};

/// An emergency asks nobody, hands nothing out before it switches, and counts nothing before it moves.
const NOT_REACHED: [&str; 3] = [
    "rotator.requested",
    "rotator.distributed",
    "rotator.counted-before",
];

/// What the store says after an emergency of `phi/1`, and how often.
pub const AFTERWARDS: [(&str, i64); 3] = [
    (
        "SELECT count(*) FROM key WHERE version = 1 AND state = 'COMPROMISED' \
            AND closed_at IS NOT NULL AND emptied_at IS NOT NULL",
        1,
    ),
    (
        "SELECT count(*) FROM key k JOIN keyring r ON r.id = k.keyring_id \
            WHERE r.name = 'phi' AND k.state = 'ACTIVE'",
        1,
    ),
    ("SELECT count(*) FROM quarantine", 0),
];

#[test]
fn killed_at_any_crash_point_an_emergency_still_ends_and_nothing_is_left() {
    at_each(reached(), survives);
}

/// Every point that an emergency passes.
pub fn reached() -> impl Iterator<Item = &'static &'static str> {
    let points = rotations_points();
    points.filter(|point| !NOT_REACHED.contains(point))
}

#[expect(
    clippy::print_stdout,
    reason = "a failure is read with its crash point"
)]
async fn survives(point: &'static str) {
    println!("crash point {point}");
    let clinic = in_many_batches().await;
    ask_for_a_ghost(&clinic.services).await;
    // Without a standby the rotator makes the switch.
    report(&clinic, "phi/2").await;
    let rotation = report(&clinic, "phi/1").await;
    dies_at(point, &clinic).await;

    let restarted = Process::up(&clinic.disks, None);
    until("the end of the emergency", async || {
        let view = rotation_view(&clinic.services, rotation.unwrap(), &operator()).await;
        let view = view.unwrap();
        assert_ne!(view.state, RotationState::Failed, "{:?}", view.failure);
        (view.state == RotationState::Completed).then_some(())
    })
    .await;
    restarted.terminate().await;
    let old = clinic.key_id(&phi(), 1).await;
    assert_eq!(clinic.under(Found::Key(old)).await, 0, "{point}");
    for (sql, expected) in AFTERWARDS {
        assert_eq!(clinic.count(sql).await, expected, "{point}: {sql}");
    }
    clinic.assert_reads_back().await;
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new(), "{point}");
}

/// Gives the rotation that answers it.
async fn report(clinic: &Deployment, key: &str) -> Option<uuid::Uuid> {
    let report = Report {
        key: key.parse().unwrap(),
        reason: "it was in a paste".to_owned(),
        since: None,
    };
    let reported = report_compromise(&clinic.services, &report, &operator()).await;
    reported.unwrap().rotation
}
