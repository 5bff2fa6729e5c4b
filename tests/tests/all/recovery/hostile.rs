//! What is missing, altered or foreign at a destination is named, and nothing is restored from it.

use std::fs;

use super::{checkpoints, lose_the_store};
use crate::{
    backups::{all_proved, quick, up},
    command_line::Desk,
};

async fn kept() -> Desk {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    super::known_as(&desk, "phi/2", "PENDING").await;
    let created = desk.rekey(&["backups", "create", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    let report = ["compromise", "phi/1", "--reason", "leaked"];
    assert_eq!(desk.rekey(&report, b"").code, 0);
    super::known_as(&desk, "phi/1", "COMPROMISED").await;
    engine.terminate().await;
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_with_a_gap_are_refused() {
    let desk = kept().await;
    lose_the_store(&desk);
    let all = checkpoints(&desk);
    assert!(all.len() >= 3, "{all:?}");
    let middle = &all[all.len() - 2];
    let whole = fs::read(middle).unwrap();
    fs::remove_file(middle).unwrap();
    let refused = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(refused.stderr.contains("is missing"), "{}", refused.stderr);
    fs::write(middle, whole).unwrap();
    assert_eq!(desk.rekey(&["restore", "--all"], b"").code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checkpoints_a_person_must_say_so_and_without_bundles_nothing_comes_back() {
    let desk = kept().await;
    lose_the_store(&desk);
    fs::rename(desk.file("state/backups/checkpoints"), desk.file("aside")).unwrap();
    let refused = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    fs::rename(desk.file("state/backups/bundles"), desk.file("bundles")).unwrap();
    let refused = desk.rekey(&["restore", "--all", "--without-checkpoint"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("no bundle stands"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_deployments_store_is_left_alone() {
    let desk = kept().await;
    let other = Desk::initialised();
    let from = desk.file("state/backups");
    let config = fs::read_to_string(other.file("rekey.toml")).unwrap();
    other.configure(&format!(
        "{config}\n[[destination]]\nname = \"theirs\"\nurl = \"file://{}\"\n",
        from.display()
    ));
    fs::copy(
        desk.file("state/master.key"),
        other.file("state/master.key"),
    )
    .unwrap();
    let before = super::states(&other);
    let refused = other.rekey(&["restore", "--all"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert_eq!(super::states(&other), before);
}

/// A restore that is not whole is never said to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_checkpoint_knows_and_no_bundle_brings_back_is_named() {
    let desk = kept().await;
    lose_the_store_but_keep(&desk, "phi/1").await;
    let refused = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("no bundle brings back"),
        "{}",
        refused.stderr
    );
    let restored = desk.rekey(&["restore", "--all", "--incomplete"], b"");
    assert_eq!(restored.code, 0, "{}", restored.stderr);
}

/// The store is gone, and every bundle of a key too.
async fn lose_the_store_but_keep(desk: &Desk, key: &str) {
    let bundle = crate::backups::bundle(desk, key);
    fs::remove_dir_all(bundle.parent().unwrap()).unwrap();
    lose_the_store(desk);
}

/// What others put at a destination, and a destination that is not there, keep nothing from coming back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_objects_and_a_destination_that_is_away_stop_no_restore() {
    let desk = kept().await;
    lose_the_store(&desk);
    let bundles = desk.file("state/backups/bundles/00000001");
    fs::create_dir_all(&bundles).unwrap();
    let huge = fs::File::create(bundles.join(format!("{}.json", "0".repeat(64)))).unwrap();
    huge.set_len(3 << 30).unwrap();
    let newest = checkpoints(&desk).pop().unwrap();
    for at in 0..30 {
        fs::copy(&newest, newest.with_file_name(format!("9{at:019}.jws"))).unwrap();
    }
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let section = |name: &str, place: &str| {
        let url = desk.file(place).display().to_string();
        format!("\n[[destination]]\nname = \"{name}\"\nurl = \"file://{url}\"\n")
    };
    desk.configure(&format!(
        "{config}{}{}",
        section("local", "state/backups"),
        section("away", "not/mounted")
    ));
    let restored = desk.rekey(&["restore", "--all"], b"");
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert!(
        restored.stderr.contains("destination away is left out"),
        "{}",
        restored.stderr
    );
}
