//! A master key that is lost is never replaced by a new one behind everyone's back.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
};

use rekey_testkit::services;
use rekey_tests::roles::{Database, OWNER};

use crate::command_line::{Answer, Desk};

const STORE_URL: &str = "REKEY__STORE__URL";

/// A deployment that was initialised, on either kind of store.
struct Place {
    desk: Desk,
    database: Option<Database>,
}

impl Place {
    async fn both() -> [Self; 2] {
        [
            Self::initialised(None),
            Self::initialised(Some(Database::create(OWNER).await)),
        ]
    }

    fn initialised(database: Option<Database>) -> Self {
        let desk = Desk::new();
        let place = Self { desk, database };
        let made = place.rekey(&["init"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        place
    }

    fn rekey(&self, arguments: &[&str]) -> Answer {
        let mut command = self.desk.command(arguments);
        if let Some(database) = &self.database {
            command.env(STORE_URL, database.url_as(OWNER));
            command.env("REKEY__BACKUP", "off");
        }
        Answer::of(command.output().unwrap())
    }

    fn master_key(&self) -> String {
        let shown = self.rekey(&["--output", "json", "master", "show"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        shown["master_key"].as_str().unwrap().to_owned()
    }

    /// What a deployment without this master key says, to `init` and to `status`.
    fn assert_lost(&self, said: &[&str]) {
        let refused = self.rekey(&["init"]);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        let status = self.rekey(&["status"]);
        assert_eq!(status.code, 3, "{} {}", status.stdout, status.stderr);
        let all = format!("{}{}", refused.stderr, status.stdout);
        assert!(!all.contains("no KMS"), "{all}");
        for said in said {
            assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
            assert!(status.stdout.contains(said), "{said}: {}", status.stdout);
        }
    }

    /// What uses no key is shown all the same.
    fn assert_shown(&self) {
        for command in [
            &["keys", "list"][..],
            &["rotations", "list"],
            &["quarantine", "list"],
            &["dead-letters", "list"],
            &["columns", "list"],
            &["audit", "list"],
            &["census"],
        ] {
            let shown = self.rekey(command);
            assert_eq!(shown.code, 0, "{command:?}: {}", shown.stderr);
        }
    }

    fn assert_whole(&self) {
        let again = self.rekey(&["init"]);
        assert_eq!(again.code, 0, "{}", again.stderr);
        let status = self.rekey(&["status"]).stdout;
        let (_, needs) = status.split_once("needs a person:").unwrap();
        assert_eq!(needs.trim().lines().count(), 1, "{status}");
        assert!(needs.contains("no worker runs"), "{status}");
    }
}

#[test]
fn init_says_what_it_made_or_that_all_was_there() {
    let desk = Desk::new();
    let file = desk.file("state/master.key");
    let first = desk.rekey(&["init"], b"");
    for said in [
        "keyring phi",
        "key phi/1",
        "key phi/2",
        "clinic.patients.ssn",
    ] {
        assert!(first.stdout.contains(said), "{said}: {}", first.stdout);
    }
    assert!(
        first.stdout.contains(file.to_str().unwrap()),
        "{}",
        first.stdout
    );
    let again = desk.rekey(&["init"], b"");
    assert!(
        again.stdout.contains("nothing was made"),
        "{}",
        again.stdout
    );
    let again = desk.rekey(&["--output", "json", "init"], b"");
    assert_eq!(again.stdout, "{\"made\":[],\"schema\":\"rekey.init/v1\"}\n");
}

#[tokio::test]
async fn init_makes_no_master_key_where_the_store_has_keys_under_another() {
    for place in Place::both().await {
        place.assert_whole();
        let (file, kept) = (
            place.desk.file("state/master.key"),
            place.desk.file("kept.key"),
        );
        let master_key = place.master_key();
        fs::rename(&file, &kept).unwrap();
        place.assert_lost(&[&master_key, file.to_str().unwrap(), "restore"]);
        assert!(!file.exists(), "no other was made");
        place.assert_shown();
        fs::rename(&kept, &file).unwrap();
        place.assert_whole();
    }
}

#[tokio::test]
async fn a_key_file_of_another_deployment_is_named_for_what_it_is() {
    for place in Place::both().await {
        let file = place.desk.file("state/master.key");
        let (master_key, kept) = (place.master_key(), fs::read(&file).unwrap());
        let other = Place::initialised(None);
        fs::copy(other.desk.file("state/master.key"), &file).unwrap();
        place.assert_lost(&[&master_key, file.to_str().unwrap(), "restore"]);
        // The same name, and other bytes.
        let altered = fs::read_to_string(&file).unwrap();
        let altered = altered.replace(&other.master_key(), &master_key);
        fs::write(&file, altered).unwrap();
        place.assert_lost(&[&master_key, file.to_str().unwrap(), "restore"]);
        fs::write(&file, kept).unwrap();
        place.assert_whole();
    }
}

#[tokio::test]
async fn keys_under_a_master_key_in_aws_get_none_in_a_file() {
    let place = Place::initialised(None);
    let config = fs::read_to_string(place.desk.file("rekey.toml")).unwrap();
    let alias = format!("alias/rekey-test-{}", uuid::Uuid::new_v4());
    let url = services::url(services::KMS);
    let aws = format!(
        "[kms]\nprovider = \"aws\"\nmaster_key = \"{alias}\"\nregion = \"eu-west-3\"\nendpoint_url = \"{url}\"\n"
    );
    let rekey = |command: &str| {
        let mut command = place.desk.command(&[command]);
        let command = command.env("AWS_ACCESS_KEY_ID", "test");
        Answer::of(
            command
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .output()
                .unwrap(),
        )
    };
    let master_key = place.master_key();
    place.desk.configure(&(aws + &config));
    let refused = rekey("init");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains(&master_key), "{}", refused.stderr);
    assert_eq!(rekey("status").code, 3);
}

#[tokio::test]
async fn a_key_file_that_others_can_read_needs_a_person_and_no_other_master_key() {
    let place = Place::initialised(None);
    let file = place.desk.file("state/master.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let init = place.rekey(&["init"]);
    assert_ne!(init.code, 0);
    let status = place.rekey(&["status"]);
    assert_eq!(status.code, 3, "{}", status.stderr);
    for said in [init.stderr, status.stdout] {
        assert!(said.contains("chmod 600"), "{said}");
    }
}

/// As `docs/restore.md` has it.
#[test]
fn copies_of_store_and_master_key_bring_every_value_back() {
    let desk = Desk::initialised();
    let place = ["--column", "clinic.patients.ssn", "--bind", "42"];
    let sealed = desk.rekey(&[&["encrypt"], &place[..]].concat(), b"123-45-6789");
    let (file, copy) = (desk.file("state/master.key"), desk.file("copy.key"));
    fs::copy(&file, &copy).unwrap();
    let copied = desk.file("copy.db");
    desk.on_store(&format!("VACUUM INTO '{}'", copied.display()));
    fs::remove_dir_all(desk.file("state")).unwrap();
    let lost = desk.rekey(&["status"], b"");
    assert_eq!(lost.code, 2, "{}", lost.stderr);

    DirBuilder::new()
        .mode(0o700)
        .create(desk.file("state"))
        .unwrap();
    fs::rename(&copy, &file).unwrap();
    fs::rename(desk.file("copy.db"), desk.file("state/store.db")).unwrap();
    for command in [&["init"][..], &["columns", "check", "--count"]] {
        let answer = desk.rekey(command, b"");
        assert_eq!(answer.code, 0, "{command:?}: {}", answer.stderr);
    }
    let opened = desk.rekey(
        &[&["decrypt"], &place[..]].concat(),
        sealed.stdout.as_bytes(),
    );
    assert_eq!(opened.stdout, "123-45-6789");
}
