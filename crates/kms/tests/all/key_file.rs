//! Master key files that cannot be used are refused, with the reason and without their contents.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rekey_kms::{KeyFileProblem, KmsError, LocalKms, MasterKeyState};

/// Looks like a key in base64, to see that no error quotes it.
const MATERIAL: &str = "PZdkmt+ws0fdGpcKk8IlUUikLy9BMG4T3im7dbhCIZI=";
const ID: &str = "0192f0c1-0000-4000-8000-0000000000b1";

#[tokio::test]
async fn a_file_that_others_have_rights_on_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    LocalKms::create(&path).await.unwrap();
    for mode in [
        0o644, 0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o660, 0o666, 0o777,
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let problem = KeyFileProblem::OpenToOthers { mode };
        assert_eq!(problem_of(&path).await, problem);
        let created = LocalKms::create(&path).await.err().unwrap();
        assert!(
            created.to_string().contains(&format!("0{mode:o}")),
            "{created}"
        );
        assert!(
            LocalKms::set_state(&path, MasterKeyState::Disabled)
                .await
                .is_err()
        );
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        LocalKms::open(&path).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_a_file_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.json");
    assert_eq!(problem_of(&missing).await, KeyFileProblem::Missing);
    assert!(!missing.exists(), "opening makes nothing");
    assert_eq!(problem_of(directory.path()).await, KeyFileProblem::NotAFile);
    assert_eq!(
        problem_of(Path::new("/dev/zero")).await,
        KeyFileProblem::NotAFile
    );
    for nowhere in ["missing/keys.json", "missing/deeper/keys.json"] {
        let refused = LocalKms::create(directory.path().join(nowhere)).await.err();
        assert_eq!(problem_in(refused), KeyFileProblem::NoDirectory);
    }
    let on_directory = LocalKms::create(directory.path()).await.err();
    assert_eq!(problem_in(on_directory), KeyFileProblem::NotAFile);
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    LocalKms::create(&path).await.unwrap();
    let whole = fs::read(&path).unwrap();
    let closed = whole.trim_ascii_end().len();
    for len in 0..closed {
        fs::write(&path, &whole[..len]).unwrap();
        let problem = problem_of(&path).await;
        assert!(
            matches!(problem, KeyFileProblem::Malformed { .. }),
            "{problem}"
        );
        assert!(LocalKms::create(&path).await.is_err(), "never made anew");
        assert_eq!(fs::read(&path).unwrap(), &whole[..len]);
    }
}

#[tokio::test]
async fn garbage_is_refused_without_being_quoted() {
    let key = key(ID, MATERIAL);
    for garbage in [
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        MATERIAL.to_owned(),
        format!("{MATERIAL:?}"),
        file(1, ID, ""),
        file(1, ID, &format!("{MATERIAL:?}")),
        file(1, ID, &key.replace("enabled", MATERIAL)),
        file(1, ID, &key.replace("\"id\"", &format!("\"{MATERIAL}\""))),
        file(1, ID, &key.replace('=', "")),
        file(1, ID, &key.replace('=', "A=")),
        file(1, ID, &key.replace("PZ", "P-")),
        file(1, ID, &key.replace("PZdkmt+w", "")),
        file(1, ID, &key.replace("PZdk", "PZdkPZdk")),
        file(1, ID, &key.replace("PZdk", "PZd\\u006b")),
        file(1, ID, &format!("{key},{key}")),
        file(1, MATERIAL, &key),
        file(1, "0192f0c1-0000-4000-8000-0000000000b2", &key),
        file(1, ID, &key) + "x",
    ] {
        let problem = problem_with(garbage.as_bytes()).await;
        assert!(
            matches!(problem, KeyFileProblem::Malformed { .. }),
            "{garbage}: {problem}"
        );
        for secret in [&MATERIAL[..8], &MATERIAL[20..30]] {
            assert!(
                !format!("{problem} {problem:?}").contains(secret),
                "{problem}"
            );
        }
    }
    for bytes in [vec![0; 1000], vec![0xff; 1000], vec![b'['; 60_000]] {
        let problem = problem_with(&bytes).await;
        assert!(
            matches!(problem, KeyFileProblem::Malformed { .. }),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_later_version_and_a_huge_file_are_named_as_such() {
    let later = "{\"version\": 3, \"anything\": []}";
    let version = KeyFileProblem::Version {
        expected: 2,
        found: 3,
    };
    assert_eq!(problem_with(later.as_bytes()).await, version);
    let huge = problem_with(&vec![b' '; 65 * 1024]).await;
    assert_eq!(huge, KeyFileProblem::TooLarge { limit: 65_536 });
}

async fn problem_with(contents: &[u8]) -> KeyFileProblem {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    problem_of(&path).await
}

async fn problem_of(path: &Path) -> KeyFileProblem {
    problem_in(LocalKms::open(path).await.err())
}

fn problem_in(error: Option<KmsError>) -> KeyFileProblem {
    match error {
        Some(KmsError::KeyFile { problem, .. }) => problem,
        other => panic!("expected a problem with the key file, found {other:?}"),
    }
}

fn file(version: u32, current: &str, keys: &str) -> String {
    format!("{{\"version\":{version},\"current\":\"{current}\",\"master_keys\":[{keys}]}}")
}

fn key(id: &str, material: &str) -> String {
    format!("{{\"id\":\"{id}\",\"state\":\"enabled\",\"material\":\"{material}\"}}")
}
