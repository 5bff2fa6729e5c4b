//! Death at each step of a backup: no proof without a bundle, and the next start goes on.

use std::{collections::HashSet, fs};

use rekey_tests::process::Process;
use serde_json::Value;

use super::{all_proved, backups, quick, up};
use crate::command_line::Desk;

const POINTS: [&str; 5] = [
    "backup.sealed",
    "backup.stored",
    "backup.listed",
    "backup.proved",
    "backup.noted",
];

/// What is called proved stands where it is said to, and comes back.
fn assert_proofs_hold(desk: &Desk) {
    for one in backups(desk) {
        if one["proved_at"].is_null() {
            continue;
        }
        let file = desk
            .file("state/backups")
            .join(one["bundle"].as_str().unwrap());
        let bytes = fs::read(&file).unwrap();
        let name = one["bundle"].as_str().unwrap();
        let hash = name.rsplit('/').next().unwrap().trim_end_matches(".json");
        let found = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
        assert_eq!(hex::encode(found), hash, "{one}");
    }
}

#[test]
fn an_init_that_is_killed_anywhere_is_ended_by_the_next() {
    for point in POINTS {
        for passing in 1..=5 {
            let desk = Desk::new();
            let mut killed = desk.command(&["init"]);
            killed.env("REKEY_CRASH_AT", format!("{point}:{passing}"));
            let status = killed.output().unwrap().status;
            // There are four first keys.
            assert_eq!(status.success(), passing > 4, "{point}:{passing}");
            if desk.rekey(&["backups", "list"], b"").code != 2 {
                assert_proofs_hold(&desk);
            }
            let made = desk.rekey(&["init"], b"");
            assert_eq!(made.code, 0, "{point}:{passing} {}", made.stderr);
            assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
            assert_proofs_hold(&desk);
            let keys = desk.rekey(&["--output", "json", "keys", "list"], b"");
            let keys: Value = serde_json::from_str(&keys.stdout).unwrap();
            let keys = keys["keys"].as_array().unwrap();
            let active: HashSet<_> = keys
                .iter()
                .filter(|key| key["state"] == "ACTIVE")
                .map(|key| key["key"].to_string())
                .collect();
            assert_eq!((keys.len(), active.len()), (8, 4), "{point}:{passing}");
            if passing > 4 {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_that_is_killed_anywhere_leaves_no_proof_without_a_bundle() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    for point in POINTS {
        let mut command = desk.command(&["up"]);
        command.env("REKEY_CRASH_AT", format!("{point}:2"));
        let mut engine = Process::spawn(command);
        // A changed RECOVERY key has every bundle made anew.
        let to = desk.file(point);
        let split = [
            "recovery",
            "split",
            "--replace",
            "--to",
            to.to_str().unwrap(),
        ];
        assert_eq!(desk.rekey(&split, b"").code, 0);
        assert!(engine.end().await.is_some(), "{point}");
        assert_proofs_hold(&desk);
    }
    let engine = up(&desk);
    all_proved(&desk).await;
    assert_proofs_hold(&desk);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    engine.terminate().await;
}
