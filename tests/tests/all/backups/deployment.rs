//! What the store knows beside keys is backed up too, anew when it changes, and drilled as keys are.

use std::fs;

use rekey_tests::support::until;
use serde_json::Value;

use super::{alert, no_alert, quick, up};
use crate::command_line::Desk;

fn listed(desk: &Desk) -> Value {
    let answer = desk.rekey(&["--output", "json", "backups", "list"], b"");
    serde_json::from_str(&answer.stdout).unwrap()
}

/// The bundle at the directory that a SQLite store has by itself, once a drill brought it back.
async fn proved(desk: &Desk, before: Option<&str>) -> String {
    until("the deployment's bundle to be proved", async || {
        let deployment = listed(desk)["deployment"][0].clone();
        let name = deployment["bundle"].as_str()?.to_owned();
        let is_proved = !deployment["proved_at"].is_null() && deployment["problem"].is_null();
        (is_proved && Some(name.as_str()) != before).then_some(name)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_configuration_makes_another_and_one_that_is_altered_is_told() {
    let desk = quick("[monitoring]\ndrill_every = \"1s\"\n");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    let first = proved(&desk, None).await;
    let file = |name: &str| desk.file("state/backups").join(name);
    let text = String::from_utf8(fs::read(file(&first)).unwrap()).unwrap();
    assert!(
        !text.contains("patients") && !text.contains("phi"),
        "{text}"
    );
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let other = config.replace("keyset_max_age = \"1s\"", "keyset_max_age = \"2s\"");
    assert_ne!(config, other);
    desk.configure(&other);
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    let second = proved(&desk, Some(&first)).await;
    assert!(file(&first).exists(), "nothing is deleted");
    no_alert(&desk, "BACKUP_FAILED").await;
    let whole = fs::read(file(&second)).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(file(&second), &altered).unwrap();
    let raised = alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(raised["subject"], "deployment");
    fs::remove_file(file(&second)).unwrap();
    no_alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(fs::read(file(&second)).unwrap(), whole);
    engine.terminate().await;
}

/// A directory is always erasable; nothing is erased by trying.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_could_erase_what_is_kept_is_said_of_the_destination() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    until("the destination to be tried", async || {
        (listed(&desk)["destinations"][0]["erasable"] == "yes").then_some(())
    })
    .await;
    let status = desk.rekey(&["status"], b"");
    assert!(
        status
            .stdout
            .contains("destination local: whoever takes the verifier over can erase"),
        "{}",
        status.stdout
    );
    engine.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_asks_for_backups_now_and_the_same_event_only_once() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let event = |id: &str, data: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/x","type":"rekey.backup.requested.v1","data":{data}}}"#
        )
    };
    let publish = |event: &str| desk.rekey(&["publish", "-"], event.as_bytes());
    for _ in 0..3 {
        let asked = publish(&event("1", r#"{"key":"phi/1"}"#));
        assert_eq!(asked.code, 0, "{}", asked.stderr);
    }
    assert_eq!(publish(&event("2", "{}")).code, 0);
    assert_ne!(publish(&event("3", r#"{"key":"phi/9"}"#)).code, 0);
    assert_ne!(publish(&event("4", r#"{"key":7}"#)).code, 0);
    let log = desk.rekey(
        &["--output", "json", "audit", "list", "--limit", "100"],
        b"",
    );
    let log: Value = serde_json::from_str(&log.stdout).unwrap();
    let entries = log["entries"].as_array().unwrap().iter();
    let asked: Vec<_> = entries
        .filter(|entry| entry["action"] == "backups.requested")
        .map(|entry| entry["subject"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let before = super::backup_of(&desk, "phi/1")["tried_at"].clone();
    let engine = up(&desk);
    until("the key to be backed up anew", async || {
        let now = super::backup_of(&desk, "phi/1")["tried_at"].clone();
        (now != before).then_some(())
    })
    .await;
    engine.terminate().await;
}
