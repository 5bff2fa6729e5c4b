//! The RECOVERY key: it leaves as shares only, and who changes the store alone gets nothing sealed to a key of theirs.

use std::{fs, os::unix::fs::PermissionsExt};

use rekey_backups::RecoveryKey;
use rekey_tests::support::until;

use super::{alert, backups, no_alert, quick, up};
use crate::command_line::Desk;

fn split(desk: &Desk, to: &str, more: &[&str]) -> crate::command_line::Answer {
    let to = desk.file(to);
    let arguments = [
        &["recovery", "split", "--to", to.to_str().unwrap()][..],
        more,
    ]
    .concat();
    desk.rekey(&arguments, b"")
}

#[test]
fn each_share_is_a_file_of_its_own_that_only_its_owner_reads_and_no_share_is_printed() {
    let desk = Desk::initialised();
    let made = split(&desk, "shares", &["--shares", "4", "--threshold", "2"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let mut files: Vec<_> = fs::read_dir(desk.file("shares"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 4);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&desk.file("shares")), 0o700);
    let store = fs::read(desk.file("state/store.db")).unwrap();
    for file in &files {
        assert_eq!(mode(file), 0o600);
        let text = fs::read_to_string(file).unwrap();
        let share: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value = share["value"].as_str().or(share["share"].as_str()).unwrap();
        assert!(!made.stdout.contains(value) && !made.stderr.contains(value));
        let in_store = store
            .windows(value.len())
            .any(|some| some == value.as_bytes());
        assert!(!in_store, "{}", file.display());
    }
    let paths: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let check = |shares: &[&str]| desk.rekey(&[&["recovery", "check-share"], shares].concat(), b"");
    let whole = check(&[paths[3], paths[0]]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    assert!(
        whole.stdout.contains("together they make RECOVERY key"),
        "{}",
        whole.stdout
    );
    let twice = check(&[paths[0], paths[0]]);
    assert_ne!(twice.code, 0);
    assert!(!twice.stdout.contains("together"), "{}", twice.stdout);
    let text = fs::read_to_string(&files[1]).unwrap();
    let digit = text.rfind(|c: char| c.is_ascii_hexdigit()).unwrap();
    let mut altered = text.into_bytes();
    altered[digit] = if altered[digit] == b'0' { b'1' } else { b'0' };
    fs::write(&files[1], altered).unwrap();
    let found = check(&[paths[1]]);
    assert_ne!(found.code, 0);
    assert!(
        found.stderr.contains("share-2-of-4.json"),
        "{}",
        found.stderr
    );
}

#[test]
fn a_second_key_and_numbers_that_make_no_set_are_refused_and_leave_no_share() {
    let desk = Desk::initialised();
    for numbers in [["1", "5"], ["6", "5"], ["2", "33"], ["0", "0"]] {
        let [threshold, shares] = numbers;
        let refused = split(&desk, "no", &["--threshold", threshold, "--shares", shares]);
        assert_eq!(refused.code, 4, "{numbers:?} {}", refused.stderr);
    }
    assert!(!desk.file("no").exists());
    assert_eq!(split(&desk, "shares", &[]).code, 0);
    let again = split(&desk, "more", &[]);
    assert_eq!(again.code, 4, "{}", again.stderr);
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    assert!(!desk.file("more").exists());
    let there = split(&desk, "shares", &["--replace"]);
    assert_eq!(there.code, 2, "{}", there.stderr);
    assert_eq!(split(&desk, "more", &["--replace"]).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_somebody_puts_into_the_store_gets_nothing_sealed_to_it() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    alert(&desk, "NO_RECOVERY_KEY").await;
    assert_eq!(split(&desk, "shares", &[]).code, 0);
    let pinned = fs::read_to_string(desk.file("state/recovery.fingerprint")).unwrap();
    let sealed_to = |desk: &Desk| -> Vec<_> {
        let all = backups(desk).into_iter();
        all.map(|one| one["recovery"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    until("every bundle to be sealed to it", async || {
        let all = sealed_to(&desk);
        all.iter().all(|one| *one == pinned.trim()).then_some(())
    })
    .await;
    no_alert(&desk, "NO_RECOVERY_KEY").await;
    let theirs = RecoveryKey::generate().public_key();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(desk.file("state/store.db"));
    let store = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE recovery_key SET public_key = $1, fingerprint = $2")
        .bind(theirs.as_bytes())
        .bind(theirs.fingerprint().to_string())
        .execute(&store)
        .await
        .unwrap();
    let _ = desk.rekey(&["backups", "create", "--wait"], b"");
    let all = sealed_to(&desk);
    assert!(!all.contains(&theirs.fingerprint().to_string()), "{all:?}");
    // It is missed, not replaced.
    alert(&desk, "NO_RECOVERY_KEY").await;
    engine.terminate().await;
}
