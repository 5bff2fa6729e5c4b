//! Recovery: from what destinations keep a key, a store and a KMS come back, and a store that was rolled back is noticed.

mod checkpoints;
mod hostile;
mod key;
mod rolled_back;
mod whole;

use std::{fs, path::PathBuf};

use rekey_envelope::decode_base64;
use rekey_tests::support::until;
use serde_json::Value;

use crate::command_line::{Answer, Desk};

const PATIENTS: i64 = 25;

/// Patients whose number is encrypted under the primary key.
fn admit(desk: &Desk) {
    for id in 1..=PATIENTS {
        let bind = id.to_string();
        let sealed = encrypt(desk, &bind);
        assert_eq!(sealed.code, 0, "{}", sealed.stderr);
        let sealed = hex::encode(decode_base64(sealed.stdout.trim()).unwrap());
        desk.on_source(&format!(
            "INSERT INTO patients (id, uuid, ssn) VALUES ({id}, '{id}', x'{sealed}')"
        ));
    }
}

fn encrypt(desk: &Desk, bind: &str) -> Answer {
    let column = "clinic.patients.ssn";
    let place = ["encrypt", "--column", column, "--bind", bind];
    desk.rekey(&place, format!("ssn {bind}").as_bytes())
}

/// Every value of every column opens, as the command that looks at each says.
fn assert_all_open(desk: &Desk) {
    let looked = desk.rekey(&["--output", "json", "columns", "check", "--count"], b"");
    assert_eq!(looked.code, 0, "{} {}", looked.stdout, looked.stderr);
    let id = PATIENTS.to_string();
    let sealed = desk.sealed(PATIENTS);
    let column = "clinic.patients.ssn";
    let opened = desk.rekey(&["decrypt", "--column", column, "--bind", &id], &sealed);
    assert_eq!(opened.code, 0, "{}", opened.stderr);
    assert_eq!(opened.stdout.trim(), format!("ssn {id}"));
}

/// The state of each key.
fn states(desk: &Desk) -> Vec<(String, String)> {
    let listed = desk.rekey(&["--output", "json", "keys", "list"], b"");
    let said: Value = serde_json::from_str(&listed.stdout).unwrap();
    let text = |one: &Value, field| one[field].as_str().unwrap().to_owned();
    let keys = said["keys"].as_array().unwrap().iter();
    keys.map(|one| (text(one, "key"), text(one, "state")))
        .collect()
}

fn state(desk: &Desk, key: &str) -> String {
    let all = states(desk);
    let found = all.iter().find(|(name, _)| name == key);
    found
        .unwrap_or_else(|| panic!("{key} in {all:?}"))
        .1
        .clone()
}

/// The checkpoints at the directory that a SQLite store has by itself, in order.
fn checkpoints(desk: &Desk) -> Vec<PathBuf> {
    let Ok(folders) = fs::read_dir(desk.file("state/backups/checkpoints")) else {
        return Vec::new();
    };
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Waits until a checkpoint knows a key as that.
async fn known_as(desk: &Desk, key: &str, state: &str) {
    let listed = desk.rekey(&["--output", "json", "keys", "list"], b"");
    let said: Value = serde_json::from_str(&listed.stdout).unwrap();
    let keys = said["keys"].as_array().unwrap();
    let id = keys.iter().find(|one| one["key"] == key).unwrap()["key_id"].clone();
    until("a checkpoint that knows the key so", async || {
        let newest = checkpoints(desk).pop()?;
        let states = fs::read(states_of(desk, &newest)).ok()?;
        let states: Value = serde_json::from_slice(&states).ok()?;
        let keys = states["keys"].as_array()?;
        let record = keys.iter().find(|one| one["key_id"] == id)?;
        (record["state"] == state).then_some(())
    })
    .await;
}

/// The states document that a checkpoint names.
fn states_of(desk: &Desk, checkpoint: &std::path::Path) -> PathBuf {
    let text = fs::read_to_string(checkpoint).unwrap();
    let payload = text.split('.').nth(1).unwrap();
    let payload = base64url(payload);
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let deployment = payload["deployment"].as_str().unwrap();
    let states = payload["states"].as_str().unwrap();
    desk.file(&format!("state/backups/states/{deployment}/{states}.json"))
}

fn base64url(text: &str) -> Vec<u8> {
    let mut usual = text.replace('-', "+").replace('_', "/");
    while !usual.len().is_multiple_of(4) {
        usual.push('=');
    }
    decode_base64(&usual).unwrap()
}

/// The store is gone, and what goes with it; backups and the master key stay.
fn lose_the_store(desk: &Desk) {
    for file in fs::read_dir(desk.file("state")).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("store")
        {
            fs::remove_file(path).unwrap();
        }
    }
}
