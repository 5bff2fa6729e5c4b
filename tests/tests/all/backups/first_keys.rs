//! The first keys of a deployment: none encrypts before it came back from a backup.

use std::fs;

use rekey_tests::roles::{Database, OWNER};
use serde_json::Value;

use super::{backups, quick};
use crate::command_line::Desk;

#[test]
fn each_first_primary_was_brought_back_before_it_encrypted_and_the_record_begins_with_that() {
    let desk = Desk::initialised();
    let primaries: Vec<_> = backups(&desk)
        .into_iter()
        .filter(|one| one["state"] == "ACTIVE")
        .collect();
    let names: Vec<_> = primaries.iter().map(|one| one["key"].clone()).collect();
    assert_eq!(names, ["audit/1", "backup/1", "phi/1", "signing/1"]);
    for one in &primaries {
        assert!(
            !one["proved_at"].is_null() && one["problem"].is_null(),
            "{one}"
        );
        let name = one["bundle"].as_str().unwrap();
        assert!(desk.file("state/backups").join(name).exists(), "{name}");
    }
    let listed = desk.rekey(
        &["--output", "json", "audit", "list", "--limit", "100"],
        b"",
    );
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let mut entries: Vec<_> = listed["entries"].as_array().unwrap().iter().collect();
    entries.sort_by_key(|entry| entry["entry"].as_i64().or(entry["sequence"].as_i64()));
    let said: Vec<_> = entries
        .iter()
        .take(6)
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["subject"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("keyring.created", "backup"),
        ("key.activated", "backup/1"),
        ("key.backed-up", "backup/1"),
        ("keyring.created", "audit"),
        ("key.activated", "audit/1"),
        ("key.backed-up", "audit/1"),
    ];
    assert_eq!(said, expected);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[test]
fn where_bundles_cannot_be_kept_no_key_becomes_primary_and_afterwards_it_goes_on() {
    let desk = Desk::new();
    // Something is in the way of the directory.
    fs::create_dir_all(desk.file("state")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(desk.file("state"), mode).unwrap();
    fs::write(desk.file("state/backups"), "not a directory").unwrap();
    let refused = desk.rekey(&["init"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("must be backed up and proved before it encrypts"),
        "{}",
        refused.stderr
    );
    fs::remove_file(desk.file("state/backups")).unwrap();
    let made = desk.rekey(&["init"], b"");
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    let place = ["encrypt", "--column", "clinic.patients.ssn", "--bind", "42"];
    assert_eq!(desk.rekey(&place, b"123-45-6789").code, 0);
}

#[test]
fn keyrings_of_which_nothing_is_said_keep_what_they_have_when_the_configuration_is_applied() {
    let desk = quick("backup = \"off\"");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&config.replace("backup = \"off\"", ""));
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    let certificate_policy = |keyring: &str| {
        let audited = desk.rekey(&["--output", "json", "apply", "--plan"], b"");
        assert_eq!(audited.code, 0, "{keyring} {}", audited.stderr);
        let plan: Value = serde_json::from_str(&audited.stdout).unwrap();
        assert_eq!(plan["changes"].as_array().unwrap().len(), 0, "{plan}");
    };
    certificate_policy("phi");
}

/// On PostgreSQL there is no directory beside the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_deployment_says_where_bundles_are_kept_or_that_there_are_none() {
    let database = Database::create(OWNER).await;
    let desk = Desk::new();
    let url = database.url_as(OWNER);
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&format!("[store]\nurl = \"{url}\"\n{config}"));
    let refused = desk.rekey(&["init"], b"");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("[[destination]]"),
        "{}",
        refused.stderr
    );
    desk.configure(&format!(
        "backup = \"off\"\n[store]\nurl = \"{url}\"\n{config}"
    ));
    let made = desk.rekey(&["init"], b"");
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(backups(&desk).is_empty());
    let vault = desk.file("vault");
    let config = format!(
        "[store]\nurl = \"{url}\"\n{config}\n[[destination]]\nname = \"vault\"\nurl = \"file://{}\"\n",
        vault.display()
    );
    desk.configure(&config);
    let applied = desk.rekey(&["apply"], b"");
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    let keys: Vec<_> = backups(&desk)
        .iter()
        .map(|one| one["key"].clone())
        .collect();
    assert!(keys.contains(&"backup/1".into()), "{keys:?}");
}

#[test]
fn a_destination_that_cannot_be_meant_is_named_where_it_stands() {
    for (url, problem) in [
        ("/var/backups", "expected file:///"),
        (
            "s3://user:hunter2@bucket",
            "credentials come from the environment",
        ),
        ("s3://bucket?endpoint=http://h", "in clear"),
    ] {
        let desk = Desk::new();
        let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
        desk.configure(&format!(
            "{config}\n[[destination]]\nname = \"vault\"\nurl = \"{url}\"\n"
        ));
        let refused = desk.rekey(&["init"], b"");
        assert_eq!(refused.code, 2, "{url} {}", refused.stderr);
        let said = &refused.stderr;
        assert!(
            said.contains("destination[0].url") && said.contains(problem),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
    let desk = Desk::new();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let twice = "[[destination]]\nname = \"vault\"\nurl = \"file:///a\"\n[[destination]]\nname = \"vault\"\nurl = \"file:///b\"\n";
    desk.configure(&format!("{config}\n{twice}"));
    let refused = desk.rekey(&["init"], b"");
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("destination[1].name"),
        "{}",
        refused.stderr
    );
}
