//! Golden files: what was wrapped once must unwrap for ever.
//!
//! A failure here means that stored keys would become unusable. The files are never changed, only
//! added to; the code is wrong.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rekey_envelope::Zeroizing;
use rekey_kms::{EncryptionContext, Kms, LocalKms, Passphrase, WrappedKey};
use serde_json::Value;

#[test]
fn encryption_contexts_are_still_the_same() {
    let vectors = golden("encryption-context.json");
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 4, "vectors were lost");
    for vector in vectors {
        let context = context(vector);
        let pairs = serde_json::to_value(context.pairs()).unwrap();
        assert_eq!(pairs, vector["pairs"]);
        assert_eq!(
            context.to_bytes(),
            hex::decode(text(vector, "canonical")).unwrap()
        );
        assert_eq!(
            context.to_bytes(),
            text(vector, "canonical_as_text").as_bytes()
        );
    }
}

#[tokio::test]
async fn every_local_wrapped_key_still_unwraps() {
    unwraps(&golden("local-wrapped-key.json"), 2).await;
}

/// Made by another implementation of argon2id and AES-256-GCM.
#[tokio::test]
async fn a_sealed_master_key_file_still_opens() {
    unwraps(&golden("local-sealed-master-key.json"), 1).await;
}

async fn unwraps(golden: &Value, least: usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, golden["master_key_file"].to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let passphrase = golden.get("passphrase").map(|text| {
        let text = text.as_str().unwrap().as_bytes().to_vec();
        Passphrase::new(Zeroizing::new(text)).unwrap()
    });
    let kms = LocalKms::open_with(&path, passphrase).await.unwrap();
    assert_eq!(
        kms.describe().await.unwrap().id,
        text(&golden["master_key_file"], "current")
    );

    let vectors = golden["wrapped_keys"].as_array().unwrap();
    assert!(vectors.len() >= least, "vectors were lost");
    for vector in vectors {
        let wrapped = WrappedKey::from(hex::decode(text(vector, "wrapped")).unwrap());
        let unwrapped = kms.decrypt(&wrapped, &context(vector)).await.unwrap();
        assert_eq!(
            unwrapped.expose_key_bytes().as_slice(),
            hex::decode(text(vector, "key")).unwrap()
        );
    }
}

fn golden(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/format")
        .join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn context(vector: &Value) -> EncryptionContext {
    EncryptionContext {
        deployment: text(vector, "deployment").parse().unwrap(),
        keyring: text(vector, "keyring").parse().unwrap(),
        key_id: text(vector, "key_id").parse().unwrap(),
        purpose: text(vector, "purpose").parse().unwrap(),
    }
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {vector}"))
}
