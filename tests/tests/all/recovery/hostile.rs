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
