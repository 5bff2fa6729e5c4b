//! The gate: no standby becomes primary before a drill brought it back; an emergency goes through it and says so.

use std::fs;

use rekey_tests::support::until;
use serde_json::{Value, json};

use super::{QUICK, alert, all_proved, backup_of, no_alert, quick, up};
use crate::command_line::Desk;

fn rotation(desk: &Desk) -> Value {
    let shown = desk.rekey(&["--output", "json", "rotations", "show", "latest"], b"");
    // Until a rotator has taken the request there is none.
    serde_json::from_str(&shown.stdout).unwrap_or_default()
}

fn certificate(desk: &Desk) -> Value {
    let shown = desk.rekey(
        &["--output", "json", "rotations", "certificate", "latest"],
        b"",
    );
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    shown["certificate"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_goes_to_a_proved_key_and_the_certificate_says_what_was_proved() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let wait = ["rotate", "phi", "--wait", "--timeout", "60s"];
    let rotated = desk.rekey(&wait, b"");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    let said = certificate(&desk);
    assert_eq!(said["gates_off"], json!(["recovery"]), "{said}");
    assert_eq!(said["policy"]["backup"], "required");
    let shown = &said["backups"][0];
    assert_eq!(shown["destination"], "local", "{said}");
    assert_eq!(shown["recovery"], Value::Null);
    let shares = desk.file("shares");
    let shares = shares.to_str().unwrap();
    assert_eq!(
        desk.rekey(&["recovery", "split", "--to", shares], b"").code,
        0
    );
    until("the next key to be sealed for recovery", async || {
        let next = backup_of(&desk, "phi/3");
        (!next["recovery"].is_null() && next["problem"].is_null()).then_some(())
    })
    .await;
    let rotated = desk.rekey(&wait, b"");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    let said = certificate(&desk);
    assert_eq!(said["gates_off"], json!([]), "{said}");
    assert!(said["backups"][0]["recovery"].is_string(), "{said}");
    engine.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_the_proof_says_so_and_goes_on_by_itself() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let (place, aside) = (desk.file("state/backups"), desk.file("state/aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "in the way").unwrap();
    let engine = up(&desk);
    assert_eq!(desk.rekey(&["rotate", "phi"], b"").code, 0);
    until("the rotation to say what it waits for", async || {
        let waiting = rotation(&desk)["waiting"].to_string();
        waiting.contains("the proof that phi/2").then_some(())
    })
    .await;
    assert_eq!(rotation(&desk)["state"], "REQUESTED");
    let raised = alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(raised["subject"], "destination/local");
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    // What waits longer after each failure is asked for by a person.
    assert_eq!(desk.rekey(&["backups", "create", "--wait"], b"").code, 0);
    until("the rotation to complete", async || {
        (rotation(&desk)["state"] == "COMPLETED").then_some(())
    })
    .await;
    no_alert(&desk, "BACKUP_FAILED").await;
    engine.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_waits_for_no_proof_and_says_that_it_went_without() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let place = desk.file("state/backups");
    fs::rename(&place, desk.file("state/aside")).unwrap();
    fs::write(&place, "in the way").unwrap();
    let engine = up(&desk);
    let reported = desk.rekey(&["compromise", "phi/1", "--reason", "seen in a paste"], b"");
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    let waived = alert(&desk, "BACKUP_WAIVED").await;
    assert_eq!(waived["subject"], "phi/2");
    until("the rotation to complete", async || {
        (rotation(&desk)["state"] == "COMPLETED").then_some(())
    })
    .await;
    let said = certificate(&desk);
    assert_eq!(said["backups"], Value::Null, "{said}");
    let off = said["gates_off"].as_array().unwrap();
    assert!(off.contains(&"backup".into()), "{said}");
    fs::remove_file(&place).unwrap();
    fs::rename(desk.file("state/aside"), &place).unwrap();
    no_alert(&desk, "BACKUP_WAIVED").await;
    engine.terminate().await;
}

/// Nothing stands under it in any column, and every key whose bundle it opens may be known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromised_backup_key_is_not_said_to_have_exposed_nothing() {
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let backup = format!("[[keyring]]\nname = \"backup\"\npurpose = \"BACKUP\"\n{QUICK}");
    desk.configure(&format!("{config}\n{backup}"));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let report = [
        "--output",
        "json",
        "compromise",
        "backup/1",
        "--reason",
        "seen",
    ];
    let reported = desk.rekey(&report, b"");
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    let reported: Value = serde_json::from_str(&reported.stdout).unwrap();
    let incident = reported["incident"].as_str().unwrap();
    until("the rotation to complete", async || {
        (rotation(&desk)["state"] == "COMPLETED").then_some(())
    })
    .await;
    let said = certificate(&desk);
    assert_eq!(said["keyring"], "backup", "{said}");
    assert_eq!(said["exposure"], Value::Null, "{said}");
    let shown = desk.rekey(&["incidents", "show", incident], b"");
    assert!(
        shown.stdout.contains("whoever could read a destination"),
        "{}",
        shown.stdout
    );
    // The other keys' bundles are sealed anew under the next one.
    until("a key to be kept under the next BACKUP key", async || {
        (backup_of(&desk, "phi/1")["backup_key"] == "backup/2").then_some(())
    })
    .await;
    engine.terminate().await;
}

/// What a BACKUP key seals are bundles: its rotation is over when each key has a proved one under the new key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_backup_is_over_when_every_key_is_sealed_anew_and_proved() {
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let keyring = format!("[[keyring]]\nname = \"backup\"\npurpose = \"BACKUP\"\n{QUICK}");
    desk.configure(&format!("{config}\n{keyring}"));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let rotated = desk.rekey(&["rotate", "backup", "--wait"], b"");
    assert_eq!(rotated.code, 0, "{} {}", rotated.stdout, rotated.stderr);
    for key in ["audit/1", "phi/1", "phi/2", "signing/1"] {
        let of_key = backup_of(&desk, key);
        assert_eq!(of_key["backup_key"], "backup/2", "{of_key}");
        assert!(of_key["problem"].is_null(), "{of_key}");
    }
    // A BACKUP key's own bundle follows the master key.
    let before = backup_of(&desk, "backup/2")["bundle"].clone();
    let replaced = desk.rekey(&["master", "rotate"], b"");
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);
    until(
        "the BACKUP key under the new master key to be stored",
        async || {
            let now = backup_of(&desk, "backup/2");
            (now["bundle"] != before && now["problem"].is_null()).then_some(())
        },
    )
    .await;
    all_proved(&desk).await;
    engine.terminate().await;
}
