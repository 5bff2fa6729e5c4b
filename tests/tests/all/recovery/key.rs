//! One key comes back: its material was lost, or its row.

use super::{admit, assert_all_open, encrypt, state};
use crate::{
    backups::{all_proved, quick, up},
    command_line::Desk,
};

async fn kept() -> Desk {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    admit(&desk);
    let engine = up(&desk);
    all_proved(&desk).await;
    super::known_as(&desk, "phi/2", "PENDING").await;
    engine.terminate().await;
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_material_is_lost_comes_back_and_encrypts_no_more() {
    let desk = kept().await;
    let there = desk.rekey(&["restore", "phi/1"], b"");
    assert_eq!(there.code, 0, "{}", there.stderr);
    assert!(
        there.stderr.contains("is there and opens"),
        "{}",
        there.stderr
    );
    desk.on_store("UPDATE key SET wrapped = x'00' WHERE version = 1 AND keyring_id = (SELECT id FROM keyring WHERE name = 'phi')");
    assert_ne!(encrypt(&desk, "1").code, 0);
    let planned = desk.rekey(&["restore", "phi/1", "--plan"], b"");
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    assert_ne!(encrypt(&desk, "1").code, 0);
    let back = desk.rekey(&["restore", "phi/1"], b"");
    assert_eq!(back.code, 0, "{}", back.stderr);
    assert_eq!(state(&desk, "phi/1"), "INACTIVE");
    assert_eq!(encrypt(&desk, "1").code, 0);
    assert_all_open(&desk);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_row_is_gone_comes_back_from_another_place_and_another_key_of_its_name_is_refused()
 {
    let desk = kept().await;
    let engine = up(&desk);
    let rotated = desk.rekey(&["rotate", "phi", "--wait"], b"");
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    engine.terminate().await;
    let of_phi = "version = 1 AND keyring_id = (SELECT id FROM keyring WHERE name = 'phi')";
    desk.on_store(&format!("DELETE FROM key WHERE {of_phi}"));
    let copy = desk.file("copy");
    std::fs::rename(desk.file("state/backups"), &copy).unwrap();
    let nothing = desk.rekey(&["restore", "phi/1"], b"");
    assert_ne!(nothing.code, 0, "{}", nothing.stdout);
    let from = format!("file://{}", copy.display());
    let back = desk.rekey(&["restore", "phi/1", "--from", &from], b"");
    assert_eq!(back.code, 0, "{}", back.stderr);
    assert_eq!(state(&desk, "phi/1"), "INACTIVE");
    desk.on_store(&format!(
        "UPDATE key SET key_id = key_id + 1 WHERE {of_phi}"
    ));
    let listed = desk.rekey(&["restore", "phi/1", "--from", &from], b"");
    assert_eq!(listed.code, 4, "{} {}", listed.stdout, listed.stderr);
}
