//! `docs/restore.md`, followed step by step where the copy of the store is older than the data.

use std::{fs, time::Duration};

use crate::sources::renames::Clinic;

/// A copy from after a switch has the key after it as a standby: values moved to that one since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_the_last_rotation_is_mended_by_another() {
    let clinic = Clinic::on(None).await;
    let desk = &clinic.desk;
    let works = clinic.works();
    clinic.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
    let standby = async {
        while !clinic.done(&["keys", "list"]).stdout.contains("PENDING") {
            tokio::task::yield_now().await;
        }
    };
    let standby = tokio::time::timeout(Duration::from_secs(60), standby).await;
    standby.unwrap();
    let copy = desk.file("copy.db");
    desk.on_store(&format!("VACUUM INTO '{}'", copy.display()));
    clinic.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
    clinic.assert_nothing_left(&["phi/3"]);
    drop(works);

    let store = desk.file("state/store.db");
    fs::copy(&copy, &store).unwrap();
    for beside in ["state/store.db-wal", "state/store.db-shm"] {
        let _ = fs::remove_file(desk.file(beside));
    }
    clinic.done(&["init"]);
    let check = clinic.rekey(&["columns", "check", "--count"]);
    assert_eq!(check.code, 3, "{}{}", check.stdout, check.stderr);
    let census = clinic.done(&["census"]);
    for told in [check.stdout, census.stderr] {
        for said in ["6 value(s) stand under phi/3", "rekey rotate phi"] {
            assert!(told.contains(said), "{said}: {told}");
        }
    }
    // Another algorithm would retire the standby that they stand under.
    let config = desk.file("rekey.toml");
    let said = fs::read_to_string(&config).unwrap();
    let purpose = "purpose = \"PHI\"\n";
    let other = format!("{purpose}algorithm = \"AES-256-CBC\"\n");
    fs::write(&config, said.replacen(purpose, &other, 1)).unwrap();
    for refused in [&["apply"][..], &["apply", "--plan"]] {
        let refused = clinic.rekey(refused);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        let why = "12 value(s) of keyring phi stand under phi/3";
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    fs::write(&config, said).unwrap();
    let _works = clinic.works();
    clinic.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
    clinic.done(&["columns", "check", "--count"]);
    clinic.assert_nothing_left(&["phi/3"]);
}
