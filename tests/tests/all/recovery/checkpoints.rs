//! Checkpoints are written when a state changed, and none is while nothing does.

use rekey_tests::{process::Process, support::until};

use super::{checkpoints, known_as, states_of};
use crate::{
    backups::{all_proved, quick, up},
    command_line::Desk,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_in_a_checkpoint_within_ten_seconds_and_none_is_written_while_no_state_changes()
{
    let desk = quick("[monitoring]\ndrill_every = \"1s\"\n");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    until("a checkpoint that names every bundle", async || {
        let newest = std::fs::read(states_of(&desk, &checkpoints(&desk).pop()?)).ok()?;
        let states: serde_json::Value = serde_json::from_slice(&newest).ok()?;
        let keys = states["keys"].as_array()?;
        let all = keys.iter().all(|key| key["bundle"].is_string());
        (all && keys.len() == 8 && states["deployment_bundle"].is_string()).then_some(())
    })
    .await;
    // Each drill is an entry of the record, and no state.
    let (count, entries) = (checkpoints(&desk).len(), entries(&desk));
    until("many drills", async || {
        (self::entries(&desk) > entries + 5).then_some(())
    })
    .await;
    assert_eq!(checkpoints(&desk).len(), count);
    let reported = std::time::Instant::now();
    let report = ["compromise", "phi/1", "--reason", "leaked"];
    assert_eq!(desk.rekey(&report, b"").code, 0);
    known_as(&desk, "phi/1", "COMPROMISED").await;
    assert!(
        reported.elapsed().as_secs() < 10,
        "{:?}",
        reported.elapsed()
    );
    engine.terminate().await;
}

fn entries(desk: &Desk) -> usize {
    let listed = desk.rekey(&["audit", "list", "--limit", "1000"], b"");
    listed.stdout.lines().count()
}

/// A verifier that dies between the object and its row finds the object again, and suspends nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_that_is_killed_while_it_writes_one_goes_on() {
    for point in ["checkpoint.states", "checkpoint.stored"] {
        let desk = quick("");
        assert_eq!(desk.rekey(&["init"], b"").code, 0);
        let mut command = desk.command(&["up"]);
        command.env("REKEY_CRASH_AT", point);
        assert!(Process::spawn(command).end().await.is_some(), "{point}");
        let engine = up(&desk);
        all_proved(&desk).await;
        known_as(&desk, "phi/2", "PENDING").await;
        let needs = desk.status()["needs_a_person"].to_string();
        assert!(!needs.contains("nothing is encrypted since"), "{needs}");
        engine.terminate().await;
    }
}
