//! The local KMS passes the suite, and its master key is made once and keeps its state.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use rekey_kms::{Kms, KmsError, LocalKms, MasterKeyState};
use tempfile::TempDir;

use crate::suite;

#[tokio::test]
async fn it_conforms() {
    let (_directory, path) = place();
    suite::conforms(&LocalKms::create(path).await.unwrap()).await;
}

#[tokio::test]
async fn a_new_master_key_wraps_and_the_old_one_goes_on_unwrapping() {
    let (_directory, path) = place();
    let kms = LocalKms::create(&path).await.unwrap();
    for _ in 0..3 {
        suite::goes_on_under_a_new_master_key(&kms).await;
    }
    suite::conforms(&LocalKms::open(&path).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn master_keys_made_at_once_are_all_kept() {
    let (directory, path) = place();
    let kms = LocalKms::create(&path).await.unwrap();
    let making = (0..16).map(|_| {
        let kms = kms.clone();
        tokio::spawn(async move { kms.new_master_key().await.unwrap().id })
    });
    let context = suite::context();
    let key = kms.generate_data_key(&context).await.unwrap();
    for made in making.collect::<Vec<_>>() {
        let made = made.await.unwrap();
        let moved = kms.rewrap(&key.wrapped, &context, &made).await.unwrap();
        kms.decrypt(&moved.wrapped, &context).await.unwrap();
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_without_room_for_another_master_key_is_left_as_it_was() {
    let (_directory, path) = place();
    let kms = LocalKms::create(&path).await.unwrap();
    let full = loop {
        if let Err(full) = kms.new_master_key().await {
            break full;
        }
    };
    let KmsError::KeyFile { problem, .. } = full else {
        panic!("{full}");
    };
    assert_eq!(problem, rekey_kms::KeyFileProblem::Full { limit: 65_536 });
    suite::unwraps_what_it_wrapped(&LocalKms::open(&path).await.unwrap()).await;
}

#[tokio::test]
async fn it_refuses_while_not_enabled_and_goes_on_when_enabled_again() {
    let (_directory, path) = place();
    let kms = LocalKms::create(&path).await.unwrap();
    let key = kms.generate_data_key(&suite::context()).await.unwrap();
    for state in [MasterKeyState::Disabled, MasterKeyState::PendingDeletion] {
        LocalKms::set_state(&path, state).await.unwrap();
        suite::refuses_while(&kms, state, &key.wrapped).await;
    }
    LocalKms::set_state(&path, MasterKeyState::Enabled)
        .await
        .unwrap();
    let unwrapped = kms.decrypt(&key.wrapped, &suite::context()).await.unwrap();
    assert_eq!(
        unwrapped.expose_key_bytes(),
        key.material.expose_key_bytes()
    );
    suite::conforms(&kms).await;
}

#[tokio::test]
async fn the_file_is_private_and_alone() {
    let (directory, path) = place();
    LocalKms::create(&path).await.unwrap();
    for state in [MasterKeyState::Disabled, MasterKeyState::Enabled] {
        LocalKms::set_state(&path, state).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

#[tokio::test]
async fn creating_again_changes_nothing() {
    let (_directory, path) = place();
    let first = LocalKms::create(&path).await.unwrap().describe().await;
    let contents = std::fs::read(&path).unwrap();
    assert_eq!(
        LocalKms::create(&path).await.unwrap().describe().await,
        first
    );
    assert_eq!(std::fs::read(&path).unwrap(), contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn created_at_once_by_many_there_is_one_master_key() {
    for _ in 0..20 {
        let (directory, path) = place();
        let creations = (0..16).map(|_| tokio::spawn(LocalKms::create(path.clone())));
        let mut described = Vec::new();
        for creation in creations.collect::<Vec<_>>() {
            described.push(creation.await.unwrap().unwrap().describe().await.unwrap());
        }
        described.dedup();
        assert_eq!(described.len(), 1);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

#[tokio::test]
async fn another_files_wrapped_key_is_of_an_unknown_master_key() {
    let [(_one, path), (_other, other_path)] = [place(), place()];
    let kms = LocalKms::create(path).await.unwrap();
    let other = LocalKms::create(other_path).await.unwrap();
    let wrapped = other
        .generate_data_key(&suite::context())
        .await
        .unwrap()
        .wrapped;
    let expected = KmsError::UnknownMasterKey {
        provider: "local",
        master_key: other.describe().await.unwrap().id,
    };
    assert_eq!(
        kms.decrypt(&wrapped, &suite::context()).await.err(),
        Some(expected)
    );
}

#[tokio::test]
async fn a_link_to_the_file_stays_a_link() {
    let (directory, path) = place();
    let link = directory.path().join("link.json");
    LocalKms::create(&path).await.unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    LocalKms::set_state(&link, MasterKeyState::Disabled)
        .await
        .unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let info = LocalKms::open(&path)
        .await
        .unwrap()
        .describe()
        .await
        .unwrap();
    assert_eq!(info.state, MasterKeyState::Disabled);
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master-keys.json");
    (directory, path)
}
