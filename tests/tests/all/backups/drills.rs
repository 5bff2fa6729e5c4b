//! Drills: what is altered, gone or foreign at a destination is found, named, and never called good.

use std::fs;

use rekey_envelope::decode_base64;
use rekey_tests::support::until;

use super::{alert, all_proved, backup_of, backups, bundle, no_alert, quick, up};
use crate::command_line::Desk;

#[test]
fn every_byte_of_a_stored_bundle_that_is_flipped_is_found_by_a_drill() {
    let desk = Desk::initialised();
    let file = bundle(&desk, "phi/1");
    let whole = fs::read(&file).unwrap();
    // Every byte is flipped in the tests of the format; here the drill is looked at.
    for at in (0..whole.len()).step_by(whole.len() / 8) {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(&file, &altered).unwrap();
        let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
        assert_eq!(found.code, 3, "byte {at}: {}", found.stdout);
        assert_eq!(backup_of(&desk, "phi/1")["problem"], "altered", "byte {at}");
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(desk.rekey(&["backups", "verify", "phi/1"], b"").code, 3);
    fs::write(&file, &whole).unwrap();
    let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
    assert_eq!(found.code, 0, "{}", found.stdout);
}

#[test]
fn the_bundle_of_another_deployment_or_key_is_not_taken_for_this_one() {
    let [desk, other] = [(); 2].map(|()| Desk::initialised());
    let (ours, theirs) = (bundle(&desk, "phi/1"), bundle(&other, "phi/1"));
    let whole = fs::read(&ours).unwrap();
    for foreign in [theirs, bundle(&desk, "signing/1")] {
        fs::copy(&foreign, &ours).unwrap();
        assert_eq!(desk.rekey(&["backups", "verify", "phi/1"], b"").code, 3);
    }
    fs::write(&ours, whole).unwrap();
    // Without its BACKUP key's bundle nothing under it comes back.
    let backup_key = bundle(&desk, "backup/1");
    fs::rename(&backup_key, desk.file("aside")).unwrap();
    let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
    assert_eq!(found.code, 3);
    assert_eq!(backup_of(&desk, "phi/1")["problem"], "no-backup-key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_gone_is_stored_anew_and_one_that_was_altered_is_left_for_a_person() {
    let desk = quick("[monitoring]\ndrill_every = \"2s\"\n");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let gone = bundle(&desk, "phi/2");
    fs::remove_file(&gone).unwrap();
    until("the bundle to be back", async || {
        gone.exists().then_some(())
    })
    .await;
    no_alert(&desk, "BACKUP_FAILED").await;
    let altered = bundle(&desk, "phi/2");
    let whole = fs::read(&altered).unwrap();
    fs::write(&altered, "altered").unwrap();
    let raised = alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(raised["subject"], "phi/2");
    assert_eq!(fs::read(&altered).unwrap(), b"altered");
    fs::remove_file(&altered).unwrap();
    no_alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(fs::read(&altered).unwrap(), whole);
    engine.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_restored_key_opens_values_of_the_application() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    for id in 1..=25 {
        let bind = id.to_string();
        let place = [
            "encrypt",
            "--column",
            "clinic.patients.ssn",
            "--bind",
            &bind,
        ];
        let sealed = desk.rekey(&place, b"123-45-6789");
        let sealed = decode_base64(sealed.stdout.trim()).unwrap();
        let sealed = hex::encode(sealed);
        desk.on_source(&format!(
            "INSERT INTO patients (id, uuid, ssn) VALUES ({id}, '{id}', x'{sealed}')"
        ));
    }
    let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
    assert_eq!(found.code, 0, "{}", found.stdout);
    assert_eq!(backup_of(&desk, "phi/1")["opened"], 20);
}

/// A bundle that times were added to since is another; old ones go when a person says so, and the newest never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_bundles_are_taken_away_by_a_person_and_the_newest_and_the_last_proved_stay() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let first = bundle(&desk, "phi/1");
    let engine = up(&desk);
    let created = desk.rekey(&["backups", "create", "phi/1", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    let newest = bundle(&desk, "phi/1");
    assert_ne!(first, newest, "it became primary since");
    let planned = desk.rekey(&["backups", "prune", "--keep", "1", "--plan"], b"");
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    assert!(first.exists() && newest.exists());
    let pruned = desk.rekey(&["backups", "prune", "--keep", "1"], b"");
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    assert!(!first.exists() && newest.exists(), "{}", pruned.stdout);
    let verified = desk.rekey(&["backups", "verify"], b"");
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    let again = desk.rekey(
        &["--output", "json", "backups", "prune", "--keep", "1"],
        b"",
    );
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["pruned"].as_array().unwrap().len(), 0, "{again}");
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    engine.terminate().await;
}

/// The older one may be the only good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_key_is_taken_away_while_its_newest_bundle_is_not_proved() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let first = bundle(&desk, "phi/1");
    let engine = up(&desk);
    let created = desk.rekey(&["backups", "create", "phi/1", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    let newest = bundle(&desk, "phi/1");
    engine.terminate().await;
    let prune = || {
        desk.rekey(
            &["--output", "json", "backups", "prune", "--keep", "1"],
            b"",
        )
    };
    let whole = fs::read(&newest).unwrap();
    let why_left = |altered: &[u8]| {
        fs::write(&newest, altered).unwrap();
        let pruned = prune();
        assert_eq!(pruned.code, 3, "{}", pruned.stdout);
        let said: serde_json::Value = serde_json::from_str(&pruned.stdout).unwrap();
        let left = said["left"].as_array().unwrap();
        let of_key = left.iter().find(|one| one["of"] == "phi/1").unwrap();
        assert!(first.exists());
        of_key["why"].as_str().unwrap().to_owned()
    };
    // Nobody looked since it was altered.
    assert!(why_left(b"altered").contains("does not stand there"));
    assert_eq!(desk.rekey(&["backups", "verify", "phi/1"], b"").code, 3);
    assert!(why_left(&whole).contains("is not proved"));
    assert_eq!(desk.rekey(&["backups", "verify", "phi/1"], b"").code, 0);
    let pruned = prune();
    assert_eq!(pruned.code, 0, "{}", pruned.stdout);
    assert!(!first.exists() && newest.exists());
}

/// Of the deployment's own bundles nobody knows the old ones but the destination; one may be on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_bundle_of_the_deployment_goes_and_one_of_the_last_hour_stays() {
    let desk = Desk::initialised();
    let engine = up(&desk);
    let created = desk.rekey(&["backups", "create", "--wait"], b"");
    assert_eq!(created.code, 0, "{}", created.stderr);
    engine.terminate().await;
    let answer = desk.rekey(&["--output", "json", "backups", "list"], b"");
    let said: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let newest = said["deployment"][0]["bundle"].as_str().unwrap();
    let newest = desk.file("state/backups").join(newest);
    let [old, young] =
        ["1", "2"].map(|digit| newest.with_file_name(format!("{}.json", digit.repeat(64))));
    for file in [&old, &young] {
        fs::copy(&newest, file).unwrap();
    }
    let file = fs::File::options().write(true).open(&old).unwrap();
    let just_now = file.metadata().unwrap().modified().unwrap();
    let two_hours_ago = just_now - std::time::Duration::from_hours(2);
    file.set_modified(two_hours_ago).unwrap();
    let pruned = desk.rekey(&["backups", "prune"], b"");
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    assert!(!old.exists() && young.exists() && newest.exists());
}

/// What needs it waits for no schedule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_key_that_others_lack_is_looked_at_at_once() {
    let desk = quick("[monitoring]\ndrill_every = \"12h\"\n");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    let backup_key = bundle(&desk, "backup/1");
    fs::remove_file(&backup_key).unwrap();
    let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
    assert_eq!(found.code, 3, "{}", found.stdout);
    until("the BACKUP key to be stored anew", async || {
        bundle(&desk, "backup/1").exists().then_some(())
    })
    .await;
    all_proved(&desk).await;
    engine.terminate().await;
}

/// A look at nothing is no proof.
#[test]
fn without_a_destination_verify_says_so() {
    let desk = Desk::new();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&format!("backup = \"off\"\n{config}"));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let verified = desk.rekey(&["backups", "verify"], b"");
    assert_eq!(verified.code, 3, "{}", verified.stdout);
    let why = "there is no destination";
    assert!(verified.stderr.contains(why), "{}", verified.stderr);
}

/// Whatever stands where a bundle should be is found, and ends no drill but its own.
#[test]
fn something_else_in_a_bundles_place_is_named_for_what_it_is() {
    let desk = Desk::initialised();
    let file = bundle(&desk, "phi/1");
    let whole = fs::read(&file).unwrap();
    let verify = || {
        let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
        assert_eq!(found.code, 3, "{}", found.stderr);
        backup_of(&desk, "phi/1")["problem"].clone()
    };
    fs::write(&file, "").unwrap();
    assert_eq!(verify(), "altered");
    fs::remove_file(&file).unwrap();
    assert_eq!(verify(), "missing");
    fs::create_dir(&file).unwrap();
    assert_eq!(verify(), "in-the-way");
    fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    assert_eq!(verify(), "in-the-way");
    fs::remove_file(&file).unwrap();
    fs::write(&file, &whole).unwrap();
    let found = desk.rekey(&["backups", "verify", "phi/1"], b"");
    assert_eq!(found.code, 0, "{}", found.stderr);
}

/// A proof is of a place, and not of a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_place_under_the_same_name_proves_nothing_and_is_filled() {
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let at = |place: &str| {
        let url = desk.file(place).display().to_string();
        format!("{config}\n[[destination]]\nname = \"vault\"\nurl = \"file://{url}\"\n")
    };
    desk.configure(&at("one"));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    engine.terminate().await;
    fs::remove_dir_all(desk.file("one")).unwrap();
    desk.configure(&at("other"));
    let verified = desk.rekey(&["backups", "verify"], b"");
    assert_eq!(verified.code, 3);
    assert!(
        verified.stderr.contains("the destination is not there"),
        "{}",
        verified.stderr
    );
    fs::create_dir(desk.file("other")).unwrap();
    let verified = desk.rekey(&["backups", "verify"], b"");
    assert_eq!(verified.code, 3);
    assert!(
        verified.stderr.contains("names another place"),
        "{}",
        verified.stderr
    );
    let engine = up(&desk);
    let kept = |key: &str| {
        let name = backup_of(&desk, key)["bundle"].as_str()?.to_owned();
        desk.file("other").join(name).exists().then_some(())
    };
    for key in ["backup/1", "audit/1", "phi/1", "phi/2"] {
        until("the key to be kept at the other place", async || kept(key)).await;
    }
    all_proved(&desk).await;
    engine.terminate().await;
}

/// A machine that cannot look says so, and nothing is written down of the bundles.
#[test]
fn whoever_cannot_look_says_so_and_writes_nothing_down() {
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let place = desk.file("vault").display().to_string();
    desk.configure(&format!(
        "{config}\n[[destination]]\nname = \"vault\"\nurl = \"file://{place}\"\n"
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let before = backup_of(&desk, "phi/1");
    desk.configure(&format!("backup = \"off\"\n{config}"));
    let verified = desk.rekey(&["backups", "verify"], b"");
    assert_eq!(verified.code, 3, "{}", verified.stdout);
    assert!(
        verified.stderr.contains("does not say where it is"),
        "{}",
        verified.stderr
    );
    assert_eq!(backup_of(&desk, "phi/1")["problem"], before["problem"]);
    assert_eq!(backup_of(&desk, "phi/1")["tried_at"], before["tried_at"]);
}

/// Without its seal to the RECOVERY key a newer bundle is worth less than an older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_that_a_recovery_key_opens_stay_while_the_newest_has_no_such_seal() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let to = desk.file("shares");
    let split = ["recovery", "split", "--to", to.to_str().unwrap()];
    assert_eq!(desk.rekey(&split, b"").code, 0);
    let engine = up(&desk);
    until("the seal to the RECOVERY key", async || {
        let sealed = backup_of(&desk, "phi/1")["recovery"].is_string();
        (sealed && backup_of(&desk, "phi/1")["problem"].is_null()).then_some(())
    })
    .await;
    all_proved(&desk).await;
    engine.terminate().await;
    let sealed = bundle(&desk, "phi/1");
    fs::remove_file(desk.file("state/recovery.fingerprint")).unwrap();
    let engine = up(&desk);
    until("a bundle without the seal", async || {
        let newest = backup_of(&desk, "phi/1");
        (newest["recovery"].is_null() && newest["is_fresh"] == true).then_some(())
    })
    .await;
    engine.terminate().await;
    let pruned = desk.rekey(&["backups", "prune", "--keep", "1"], b"");
    assert_eq!(pruned.code, 3, "{}", pruned.stdout);
    assert!(
        pruned.stderr.contains("a RECOVERY key opens"),
        "{}",
        pruned.stderr
    );
    assert!(sealed.exists());
}

/// A proof has an end, and a row that somebody altered is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_is_old_dated_ahead_or_anothers_is_none() {
    let desk = quick("");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let engine = up(&desk);
    all_proved(&desk).await;
    engine.terminate().await;
    assert_eq!(desk.rekey(&["backups", "list"], b"").code, 0);
    for time in ["2020-01-01T01:00:00+00:00", "2199-01-01T01:00:00+00:00"] {
        desk.on_store(&format!("UPDATE drill SET last_at = '{time}'"));
        let listed = desk.rekey(&["backups", "list"], b"");
        assert_eq!(listed.code, 3, "{time}");
        let engine = up(&desk);
        until("fresh proofs", async || {
            (desk.rekey(&["backups", "list"], b"").code == 0).then_some(())
        })
        .await;
        engine.terminate().await;
    }
    desk.on_store(
        "UPDATE backup SET key_id = (SELECT max(key_id) FROM key) WHERE key_id = (SELECT min(key_id) FROM key)",
    );
    let engine = up(&desk);
    until("the row to be its key's again", async || {
        let all = backups(&desk);
        all.iter().all(|one| !one["bundle"].is_null()).then_some(())
    })
    .await;
    all_proved(&desk).await;
    engine.terminate().await;
}

/// What is declared under a name that was taken away is another place until it is looked at.
#[test]
fn a_destination_that_is_declared_again_has_no_proofs() {
    let desk = quick("");
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let with = |places: &[&str]| {
        let section = |place: &&str| {
            let url = desk.file(place).display().to_string();
            format!("\n[[destination]]\nname = \"{place}\"\nurl = \"file://{url}\"\n")
        };
        let sections: Vec<_> = places.iter().map(section).collect();
        desk.configure(&format!("{config}{}", sections.concat()));
    };
    with(&["one", "two"]);
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let proved = |at: &str| {
        let all = backups(&desk).into_iter();
        let mut here = all.filter(|one| one["destination"] == at && one["key"] == "phi/1");
        here.next().map(|one| one["proved_at"].is_string())
    };
    assert_eq!(proved("two"), Some(true));
    with(&["one"]);
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    assert_eq!(proved("two"), None);
    with(&["one", "two"]);
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    assert_eq!(proved("two"), Some(false));
    assert_eq!(proved("one"), Some(true));
}
