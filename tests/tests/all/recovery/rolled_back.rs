//! A store that went back in time forgets that a key was reported. A checkpoint does not.

use std::{fs, path::PathBuf};

use rekey_tests::{
    process::Process,
    roles::{Database, OWNER, server},
    support::until,
};
use serde_json::Value;

use super::{admit, assert_all_open, checkpoints, encrypt, known_as, state, states};
use crate::{
    backups::{alert, all_proved, no_alert, quick, up},
    command_line::Desk,
};

/// The files of a SQLite store, put aside or back.
fn copy_store(desk: &Desk, from: &str, to: &str) {
    fs::create_dir_all(desk.file(to)).unwrap();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let (old, new) = (desk.file(from).join(name), desk.file(to).join(name));
        let _ = fs::remove_file(&new);
        if old.exists() {
            fs::copy(old, new).unwrap();
        }
    }
}

/// A deployment whose store is that of before phi/1 was reported.
async fn rolled_back() -> Desk {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    admit(&desk);
    let engine = up(&desk);
    all_proved(&desk).await;
    known_as(&desk, "phi/2", "PENDING").await;
    engine.terminate().await;
    copy_store(&desk, "state", "aside");
    let engine = up(&desk);
    let reported = desk.rekey(
        &["compromise", "phi/1", "--reason", "leaked", "--wait"],
        b"",
    );
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    known_as(&desk, "phi/1", "COMPROMISED").await;
    known_as(&desk, "phi/3", "PENDING").await;
    engine.terminate().await;
    copy_store(&desk, "aside", "state");
    assert_eq!(state(&desk, "phi/1"), "ACTIVE");
    desk
}

async fn suspended(desk: &Desk) {
    until("the roll-back to be noticed", async || {
        let needs = desk.status()["needs_a_person"].to_string();
        needs.contains("nothing is encrypted since").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_rolled_back_encrypts_nothing_until_it_is_reconciled() {
    let desk = rolled_back().await;
    let engine = up(&desk);
    suspended(&desk).await;
    alert(&desk, "STORE_ROLLED_BACK").await;
    let refused = encrypt(&desk, "1");
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("nothing is encrypted"),
        "{}",
        refused.stderr
    );
    let before = states(&desk);
    let planned = desk.rekey(
        &["--output", "json", "restore", "--reconcile", "--plan"],
        b"",
    );
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let said: Value = serde_json::from_str(&planned.stdout).unwrap();
    let changes = said["reconciled"]["changes"].as_array().unwrap();
    let of_phi = changes.iter().find(|one| one["key"] == "phi/1").unwrap();
    assert_eq!(of_phi["becomes"], "COMPROMISED");
    assert_eq!(states(&desk), before, "a plan changes nothing");
    let reconciled = desk.rekey(&["restore", "--reconcile"], b"");
    assert_eq!(reconciled.code, 0, "{}", reconciled.stderr);
    assert_eq!(state(&desk, "phi/1"), "COMPROMISED");
    for old in ["phi/2", "phi/3"] {
        assert_eq!(state(&desk, old), "INACTIVE", "{old}");
    }
    assert_eq!(encrypt(&desk, "1").code, 0);
    no_alert(&desk, "STORE_ROLLED_BACK").await;
    // What stands under the compromised key is moved again.
    until("no value to be left under phi/1", async || {
        let census = desk.rekey(&["--output", "json", "census"], b"");
        (!census.stdout.contains("\"phi/1\"")).then_some(())
    })
    .await;
    assert_all_open(&desk);
    let count = checkpoints(&desk).len();
    until("the next checkpoint", async || {
        (checkpoints(&desk).len() > count).then_some(())
    })
    .await;
    engine.terminate().await;
    let verified = desk.rekey(&["audit", "verify"], b"");
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    let said = verified.stdout + &verified.stderr;
    assert!(said.contains("is lost"), "{said}");
    // It is noticed once.
    let engine = up(&desk);
    all_proved(&desk).await;
    assert!(
        !desk.status()["needs_a_person"]
            .to_string()
            .contains("nothing is encrypted since")
    );
    engine.terminate().await;
    let again = desk.rekey(&["restore", "--reconcile"], b"");
    assert_eq!(again.code, 4, "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconciliation_that_is_killed_is_ended_by_the_next() {
    let desk = rolled_back().await;
    let engine = up(&desk);
    suspended(&desk).await;
    engine.terminate().await;
    for point in ["reconcile.restored", "backup.stored", "reconcile.primaries"] {
        let mut command = desk.command(&["restore", "--reconcile"]);
        command.env("REKEY_CRASH_AT", point);
        assert!(Process::spawn(command).end().await.is_some(), "{point}");
        let refused = encrypt(&desk, "1");
        assert_ne!(refused.code, 0, "{point}");
    }
    let reconciled = desk.rekey(&["restore", "--reconcile"], b"");
    assert_eq!(reconciled.code, 0, "{}", reconciled.stderr);
    assert_eq!(state(&desk, "phi/1"), "COMPROMISED");
    assert_eq!(encrypt(&desk, "1").code, 0);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    // However often it was cut short, what had been reported is moved again, and new keys were made once.
    let incidents = desk.rekey(&["--output", "json", "incidents", "list"], b"");
    assert!(
        incidents.stdout.contains("\"phi/1\""),
        "{}",
        incidents.stdout
    );
    assert_eq!(state(&desk, "phi/4"), "ACTIVE");
}

/// Work that was done since the store went back made other keys under the same versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_histories_are_kept_where_each_made_a_key_of_one_version() {
    let desk = rolled_back().await;
    let reported = desk.rekey(&["compromise", "phi/1", "--reason", "leaked again"], b"");
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    assert_eq!(state(&desk, "phi/3"), "PENDING");
    let engine = up(&desk);
    suspended(&desk).await;
    let reconciled = desk.rekey(&["restore", "--reconcile"], b"");
    assert_eq!(reconciled.code, 0, "{}", reconciled.stderr);
    let of_phi = states(&desk).into_iter();
    let of_phi: Vec<_> = of_phi.filter(|(key, _)| key.starts_with("phi/")).collect();
    // 1 and 2, and 3 twice, of which one has another name now; the new primary and its standby.
    assert_eq!(of_phi.len(), 6, "{of_phi:?}");
    all_proved(&desk).await;
    assert_all_open(&desk);
    engine.terminate().await;
}

/// One object that nobody can read, put where the newest checkpoint would be, hides nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_among_checkpoints_hides_no_roll_back() {
    let desk = rolled_back().await;
    let newest = checkpoints(&desk).pop().unwrap();
    let huge = fs::File::create(newest.with_file_name(format!("{}.jws", "9".repeat(20)))).unwrap();
    huge.set_len(9 << 20).unwrap();
    fs::create_dir(newest.with_file_name(format!("{}.jws", "8".repeat(20)))).unwrap();
    let engine = up(&desk);
    suspended(&desk).await;
    engine.terminate().await;
    assert_eq!(desk.rekey(&["restore", "--reconcile"], b"").code, 0);
}

/// Whoever may create at a destination can stop nobody's encryption with what we did not sign.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_nobody_of_ours_signed_suspends_nothing() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let newest = until("a checkpoint", async || checkpoints(&desk).pop()).await;
    engine.terminate().await;
    let text = fs::read_to_string(&newest).unwrap();
    let forged =
        |digit: &str| -> PathBuf { newest.with_file_name(format!("{}.jws", digit.repeat(20))) };
    let (header, rest) = text.split_once('.').unwrap();
    fs::write(forged("1"), format!("{header}.{}", rest.replace('A', "B"))).unwrap();
    fs::write(forged("2"), &text).unwrap();
    fs::write(forged("3"), "no checkpoint").unwrap();
    let engine = up(&desk);
    let created = desk.rekey(&["backups", "create", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    let reported = desk.rekey(&["compromise", "phi/1", "--reason", "leaked"], b"");
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    until("checkpoints to go on", async || {
        let ours = checkpoints(&desk).into_iter();
        let ours: Vec<_> = ours
            .filter(|file| ![forged("1"), forged("2"), forged("3")].contains(file))
            .collect();
        (ours.last()? > &newest).then_some(())
    })
    .await;
    assert!(
        !desk.status()["needs_a_person"]
            .to_string()
            .contains("nothing is encrypted since")
    );
    engine.terminate().await;
}

/// Runs SQL on the server's own database, as nobody may be connected to the one that is renamed.
async fn on_server(sql: &str) -> Result<(), sqlx::Error> {
    let pool = sqlx::PgPool::connect(&server()).await?;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let done = sqlx::raw_sql(sql).execute(&pool).await.map(drop);
    pool.close().await;
    done
}

/// The database goes back in time under workers that live on, as where a point in time was restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_that_goes_back_under_live_workers_is_noticed_within_a_minute() {
    let database = Database::create(OWNER).await;
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let url = database.url_as(OWNER);
    desk.configure(&format!(
        "[store]\nurl = \"{url}\"\n{config}\n[[destination]]\nname = \"vault\"\nurl = \"file://{}\"\n",
        desk.file("state/backups").display()
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    known_as(&desk, "phi/2", "PENDING").await;
    engine.terminate().await;
    let (name, earlier) = (database.name(), format!("{}_earlier", database.name()));
    on_server(&format!("CREATE DATABASE {earlier} TEMPLATE {name}"))
        .await
        .unwrap();
    let engine = up(&desk);
    let reported = desk.rekey(
        &["compromise", "phi/1", "--reason", "leaked", "--wait"],
        b"",
    );
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    known_as(&desk, "phi/1", "COMPROMISED").await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    until("the database to go back", async || {
        on_server(&end).await.ok()?;
        on_server(&format!("ALTER DATABASE {name} RENAME TO {name}_later"))
            .await
            .ok()
    })
    .await;
    on_server(&format!("ALTER DATABASE {earlier} RENAME TO {name}"))
        .await
        .unwrap();
    let began = std::time::Instant::now();
    suspended(&desk).await;
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_ne!(encrypt(&desk, "1").code, 0);
    let reconciled = desk.rekey(&["restore", "--reconcile"], b"");
    assert_eq!(reconciled.code, 0, "{}", reconciled.stderr);
    assert_eq!(state(&desk, "phi/1"), "COMPROMISED");
    assert_eq!(encrypt(&desk, "1").code, 0);
    engine.terminate().await;
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    on_server(&format!("DROP DATABASE {name}_later WITH (FORCE)"))
        .await
        .unwrap();
}
