//! A deployment whose store is lost, and then its KMS too, comes back from what a destination keeps.

use std::fs;

use rekey_tests::process::Process;

use super::{
    admit, assert_all_open, checkpoints, encrypt, known_as, lose_the_store, state, states,
};
use crate::{
    backups::{all_proved, quick, up},
    command_line::Desk,
};

/// A deployment with patients, a reported key and backups; nobody works any more.
async fn before_the_disaster() -> Desk {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let to = desk.file("shares");
    let split = [
        "recovery",
        "split",
        "--shares",
        "3",
        "--threshold",
        "2",
        "--to",
    ];
    let split = desk.rekey(&[&split[..], &[to.to_str().unwrap()]].concat(), b"");
    assert_eq!(split.code, 0, "{}", split.stderr);
    admit(&desk);
    let engine = up(&desk);
    all_proved(&desk).await;
    let reported = desk.rekey(
        &["compromise", "phi/1", "--reason", "leaked", "--wait"],
        b"",
    );
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    let created = desk.rekey(&["backups", "create", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    known_as(&desk, "phi/2", "ACTIVE").await;
    known_as(&desk, "phi/1", "COMPROMISED").await;
    engine.terminate().await;
    desk
}

/// What holds of a deployment that came back.
async fn assert_is_back(desk: &Desk) {
    assert_eq!(state(desk, "phi/1"), "COMPROMISED");
    for old in ["phi/2", "phi/3", "audit/1", "backup/1", "signing/1"] {
        assert_eq!(state(desk, old), "INACTIVE", "{old}");
    }
    for keyring in ["phi", "audit", "backup", "signing"] {
        let active = states(desk).into_iter();
        let of_it = active.filter(|(key, state)| key.starts_with(keyring) && state == "ACTIVE");
        assert_eq!(of_it.count(), 1, "{keyring}");
    }
    let applied = desk.rekey(&["apply"], b"");
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    assert_all_open(desk);
    assert_eq!(encrypt(desk, "77").code, 0);
    let verified = desk.rekey(&["audit", "verify"], b"");
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    assert!(verified.stdout.contains("is lost") || verified.stderr.contains("is lost"));
    // The next checkpoints continue those of before.
    let before = checkpoints(desk).len();
    let engine = up(desk);
    all_proved(desk).await;
    known_as(desk, "phi/4", "ACTIVE").await;
    assert!(checkpoints(desk).len() > before);
    let rotated = desk.rekey(&["rotate", "phi", "--wait"], b"");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    assert_all_open(desk);
    engine.terminate().await;
    assert!(
        desk.status()["needs_a_person"]
            .to_string()
            .find("nothing is encrypted")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_lost_comes_back_with_the_master_key_and_every_value_opens() {
    let desk = before_the_disaster().await;
    lose_the_store(&desk);
    let planned = desk.rekey(&["restore", "--all", "--plan"], b"");
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let restored = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_is_back(&desk).await;
    let again = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(again.code, 4, "{}", again.stderr);
    assert!(again.stderr.contains("already"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kms_that_is_lost_too_is_replaced_by_shares() {
    let desk = before_the_disaster().await;
    lose_the_store(&desk);
    fs::remove_file(desk.file("state/master.key")).unwrap();
    let without = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(without.code, 4, "{}", without.stderr);
    assert!(
        without.stderr.contains("--with-shares"),
        "{}",
        without.stderr
    );
    let share = |index: u8| {
        let file = desk.file(&format!("shares/share-{index}-of-3.json"));
        file.to_str().unwrap().to_owned()
    };
    let with = |shares: &[&str]| {
        let asked = [&["restore", "--all", "--with-shares"], shares].concat();
        desk.rekey(&asked, b"")
    };
    let (one, two) = (share(1), share(2));
    for (shares, says) in [
        (&[&one[..]][..], "too few shares"),
        (&[&one, &one], "was given as number 1 already"),
    ] {
        let refused = with(shares);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let restored = with(&[&one, &two]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_is_back(&desk).await;
}

/// Killed at any step and said again it is whole, and no key of before encrypts meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_is_ended_by_the_next() {
    let desk = before_the_disaster().await;
    lose_the_store(&desk);
    for (point, fills) in [
        ("restore.filled", true),
        ("backup.stored", true),
        ("backup.noted", true),
        ("restore.primaries", true),
    ] {
        let mut command = desk.command(&["restore", "--all"]);
        command.env("REKEY_CRASH_AT", point);
        assert!(Process::spawn(command).end().await.is_some(), "{point}");
        let refused = encrypt(&desk, "1");
        assert_eq!(refused.code != 0, fills, "{point} {}", refused.stdout);
    }
    let restored = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_is_back(&desk).await;
}
