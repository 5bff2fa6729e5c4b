//! A passphrase over the master key file: of no use without it, and never shown.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rekey_envelope::Zeroizing;
use rekey_kms::{KeyFileProblem, Kms, KmsError, LocalKms, MasterKeyState, Passphrase};
use tempfile::TempDir;

use crate::suite;

const WORDS: &str = "correct horse battery staple";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    (directory, path)
}

fn problem<T>(result: Result<T, KmsError>) -> KeyFileProblem {
    match result.err() {
        Some(KmsError::KeyFile { problem, .. }) => problem,
        other => panic!("expected a problem with the key file, found {other:?}"),
    }
}

#[tokio::test]
async fn it_conforms_with_one() {
    let (_directory, path) = place();
    let kms = LocalKms::create_with(&path, Some(passphrase(WORDS))).await;
    let kms = kms.unwrap();
    suite::conforms(&kms).await;
    suite::goes_on_under_a_new_master_key(&kms).await;
    let again = LocalKms::open_with(&path, Some(passphrase(WORDS))).await;
    suite::unwraps_what_it_wrapped(&again.unwrap()).await;
}

#[tokio::test]
async fn without_the_right_passphrase_nothing_opens() {
    let (_directory, path) = place();
    let made = LocalKms::create_with(&path, Some(passphrase(WORDS))).await;
    made.unwrap();
    let whole = fs::read(&path).unwrap();
    let needed = problem(LocalKms::open(&path).await);
    assert_eq!(needed, KeyFileProblem::PassphraseNeeded);
    let other = passphrase("correct horse battery stapl3");
    let wrong = problem(LocalKms::open_with(&path, Some(other)).await);
    assert_eq!(wrong, KeyFileProblem::WrongPassphrase);
    assert_eq!(problem(LocalKms::create(&path).await), needed);
    assert_eq!(fs::read(&path).unwrap(), whole, "left as it was");
}

#[tokio::test]
async fn a_file_that_lies_open_is_not_taken_for_a_sealed_one() {
    let (_directory, path) = place();
    LocalKms::create(&path).await.unwrap();
    let open = LocalKms::open_with(&path, Some(passphrase(WORDS))).await;
    assert_eq!(problem(open), KeyFileProblem::NotProtected);
}

#[tokio::test]
async fn it_is_set_replaced_and_taken_away_and_the_keys_stay() {
    let (_directory, path) = place();
    let mut kms = LocalKms::create(&path).await.unwrap();
    let context = suite::context();
    let key = kms.generate_data_key(&context).await.unwrap();
    let plain = fs::read_to_string(&path).unwrap();
    let material = plain.split('"').rev().nth(1).unwrap().to_owned();
    for new in [Some(WORDS), Some("another one, as long"), None] {
        let elsewhere = kms.clone();
        kms.change_passphrase(new.map(passphrase)).await.unwrap();
        let stored = fs::read_to_string(&path).unwrap();
        assert_eq!(stored.contains(&material), new.is_none());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let late = elsewhere.decrypt(&key.wrapped, &context).await;
        assert!(late.is_err(), "another process must be told the new one");
        for kms in [
            kms.clone(),
            LocalKms::open_with(&path, new.map(passphrase))
                .await
                .unwrap(),
        ] {
            let opened = kms.decrypt(&key.wrapped, &context).await.unwrap();
            assert!(opened.expose_key_bytes() == key.material.expose_key_bytes());
        }
    }
}

#[tokio::test]
async fn a_sealed_master_key_is_disabled_without_the_passphrase() {
    let (_directory, path) = place();
    let kms = LocalKms::create_with(&path, Some(passphrase(WORDS))).await;
    let kms = kms.unwrap();
    let disabled = LocalKms::set_state(&path, MasterKeyState::Disabled).await;
    disabled.unwrap();
    let refused = kms.generate_data_key(&suite::context()).await;
    assert!(matches!(refused, Err(KmsError::Disabled { .. })));
    let enabled = LocalKms::set_state(&path, MasterKeyState::Enabled).await;
    enabled.unwrap();
    suite::unwraps_what_it_wrapped(&kms).await;
}

#[tokio::test]
async fn a_file_that_was_altered_does_not_open_and_cannot_take_all_memory() {
    let (_directory, path) = place();
    let made = LocalKms::create_with(&path, Some(passphrase(WORDS))).await;
    made.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let id = whole.split("\"current\": \"").nth(1).unwrap();
    let other = id[..36].replace(&id[..8], "00000000");
    for (from, to, expected) in [
        // Bound to its id.
        (&id[..36], other.as_str(), KeyFileProblem::WrongPassphrase),
        ("65536", "4294967295", malformed()),
        (
            "\"iterations\": 3",
            "\"iterations\": 4000000000",
            malformed(),
        ),
        ("\"lanes\": 4", "\"lanes\": 0", malformed()),
    ] {
        let altered = whole.replace(from, to);
        assert_ne!(altered, whole);
        fs::write(&path, altered).unwrap();
        let refused = problem(LocalKms::open_with(&path, Some(passphrase(WORDS))).await);
        assert_eq!(refused, expected, "{from}");
    }
    for (from, to) in [("\"version\": 2", "\"version\": 1"), ("argon2id", "scrypt")] {
        fs::write(&path, whole.replace(from, to)).unwrap();
        let refused = problem(LocalKms::open_with(&path, Some(passphrase(WORDS))).await);
        assert!(
            matches!(refused, KeyFileProblem::Malformed { .. }),
            "{refused}"
        );
    }
}

fn malformed() -> KeyFileProblem {
    let reason = "its passphrase settings are not ones that Rekey writes".to_owned();
    KeyFileProblem::Malformed { reason }
}

#[tokio::test]
async fn it_is_read_from_a_private_file_and_never_shown() {
    let (directory, _) = place();
    let file = directory.path().join("passphrase");
    let write = |text: &str, mode| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(&format!("{WORDS}\n"), 0o600);
    let read = Passphrase::read(&file).await.unwrap();
    assert!(!format!("{read:?}").contains("horse"));
    let (_directory, path) = place();
    let kms = LocalKms::create_with(&path, Some(read)).await.unwrap();
    assert!(!format!("{kms:?}").contains("horse"));
    // Without its line end it is the same.
    LocalKms::open_with(&path, Some(passphrase(WORDS)))
        .await
        .unwrap();

    write(WORDS, 0o644);
    let open = problem(Passphrase::read(&file).await);
    assert_eq!(open, KeyFileProblem::OpenToOthers { mode: 0o644 });
    write("short\n", 0o600);
    let short = problem(Passphrase::read(&file).await);
    assert_eq!(short, KeyFileProblem::PassphraseTooShort { least: 12 });
}
