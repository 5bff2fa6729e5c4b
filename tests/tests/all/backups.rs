//! Backups of keys: made before a key is used, proved by restores, and what is said when they are not.

mod clouds;
mod crash;
mod deployment;
mod drills;
mod first_keys;
mod gate;
mod recovery;
mod rights;

use std::{fs, path::PathBuf};

use rekey_tests::{process::Process, support::until};
use serde_json::Value;

use crate::command_line::Desk;

/// Rotations end in seconds.
const QUICK: &str = r#"
keyset_max_age = "1s"
grace_period = "1s"
sweep_every = "1s"
encrypt_lease = "1s"
"#;

/// A desk whose keyring rotates in seconds, with more before all sections.
pub(crate) fn quick(before: &str) -> Desk {
    let desk = Desk::new();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let config = config.replace(
        "purpose = \"PHI\"\n",
        &format!("purpose = \"PHI\"\n{QUICK}"),
    );
    desk.configure(&format!("{before}\n{config}"));
    desk
}

/// Every worker of a desk, in one process.
pub(crate) fn up(desk: &Desk) -> Process {
    Process::spawn(desk.command(&["up"]))
}

/// What `rekey backups list` says, key by key.
pub(crate) fn backups(desk: &Desk) -> Vec<Value> {
    let answer = desk.rekey(&["--output", "json", "backups", "list"], b"");
    let said: Value = serde_json::from_str(&answer.stdout).unwrap();
    said["backups"].as_array().unwrap().clone()
}

pub(crate) fn backup_of(desk: &Desk, key: &str) -> Value {
    let all = backups(desk);
    let mut of_key = all.into_iter().filter(|one| one["key"] == key);
    of_key.next().unwrap_or_else(|| panic!("{key}"))
}

pub(crate) async fn all_proved(desk: &Desk) {
    until("every key to be proved", async || {
        let is_proved = |one: &Value| !one["proved_at"].is_null() && one["problem"].is_null();
        backups(desk).iter().all(is_proved).then_some(())
    })
    .await;
}

/// The file of a key's newest bundle at the directory that a SQLite store has by itself.
pub(crate) fn bundle(desk: &Desk, key: &str) -> PathBuf {
    let name = backup_of(desk, key)["bundle"].as_str().unwrap().to_owned();
    desk.file("state/backups").join(name)
}

pub(crate) fn alerts(desk: &Desk) -> Vec<Value> {
    let answer = desk.rekey(&["--output", "json", "alerts", "list"], b"");
    let said: Value = serde_json::from_str(&answer.stdout).unwrap();
    said["alerts"].as_array().unwrap().clone()
}

pub(crate) async fn alert(desk: &Desk, kind: &str) -> Value {
    until(kind, async || {
        alerts(desk).into_iter().find(|one| one["kind"] == kind)
    })
    .await
}

pub(crate) async fn no_alert(desk: &Desk, kind: &str) {
    until(&format!("the end of {kind}"), async || {
        let raised = alerts(desk);
        let stands = |one: &Value| one["kind"] == kind && one["cleared_at"].is_null();
        (!raised.iter().any(stands)).then_some(())
    })
    .await;
}
