//! Golden files: what was sealed or split once must open for ever.
//!
//! A failure here means that backups would not restore. The files are never changed, only added to; the code is wrong.

use std::path::{Path, PathBuf};

use rekey_backups::{
    BackedUpKey, BackupKey, Bundle, DeploymentBundle, RecoveryKey, RecoveryPublicKey, Share,
    combine,
};
use rekey_envelope::{CheckValue, KeyMaterial};
use serde_json::{Value, json};

#[test]
fn every_set_of_shares_still_makes_its_key() {
    for vector in vectors("recovery-share.json", 2) {
        let key = recovery_key(&vector);
        assert_eq!(
            hex::encode(key.public_key().as_bytes()),
            vector["public_key"]
        );
        let shares = shares(&vector);
        let last = shares.len() - usize::from(shares[0].threshold());
        let key = combine(&shares[last..], shares[0].fingerprint()).unwrap();
        assert_eq!(key.public_key(), public_key(&vector));
    }
}

#[test]
fn every_share_is_still_written_as_it_was() {
    for vector in vectors("recovery-share.json", 2) {
        let texts = vector["shares"].as_array().unwrap();
        for (share, text) in shares(&vector).iter().zip(texts) {
            assert_eq!(share.to_text().as_str(), text);
        }
    }
}

#[test]
fn every_bundle_still_opens_with_either_key() {
    for vector in vectors("bundle.json", 6) {
        let (bundle, backup) = (bundle(&vector), key(&vector, "backup_key"));
        let opened = bundle.open(by(&bundle, &backup)).unwrap();
        assert_is_of(&opened, &vector, "backup");
        let recovery = recovery_of(&bundle);
        assert_eq!(recovery.is_some(), !vector["recovery"].is_null());
        if let Some(recovery) = recovery {
            let recovered = bundle.recover(&recovery_key(&recovery)).unwrap();
            assert_is_of(&recovered, &vector, "recovery");
        }
    }
}

/// Else every drill would cry after an upgrade.
#[test]
fn every_bundle_is_still_sealed_to_the_same_bytes() {
    for vector in vectors("bundle.json", 6) {
        let (bundle, backup) = (bundle(&vector), key(&vector, "backup_key"));
        let to = recovery_of(&bundle).map(|set| public_key(&set));
        let drilled = bundle.reseal_and_compare(by(&bundle, &backup), to.as_ref());
        assert_is_of(&drilled.unwrap(), &vector, "backup");
    }
}

/// `REKEY_BLESS=1` makes the file where there is none yet.
#[test]
fn every_deployment_bundle_still_opens_and_is_sealed_to_the_same_bytes() {
    if std::env::var_os("REKEY_BLESS").is_some() {
        make_deployments();
    }
    for vector in vectors("deployment.json", 2) {
        let (name, bytes) = (text(&vector, "name"), text(&vector, "bundle").as_bytes());
        let bundle = DeploymentBundle::read(name, bytes).unwrap();
        let backup = key(&vector, "backup_key");
        let by = BackupKey {
            id: bundle.backup_key(),
            material: &backup,
        };
        let set = bundle.recovery_key().map(|key| set_of(&key.to_string()));
        let to = set.as_ref().map(public_key);
        let drilled = bundle.reseal_and_compare(by, to.as_ref()).unwrap();
        assert_eq!(drilled.as_slice(), text(&vector, "contents").as_bytes());
        if let Some(set) = set {
            let recovered = bundle.recover(&recovery_key(&set)).unwrap();
            assert_eq!(recovered.as_slice(), text(&vector, "contents").as_bytes());
        }
    }
}

fn make_deployments() {
    let path = formats().join("deployment.json");
    if path.exists() {
        return;
    }
    let set = vectors("recovery-share.json", 2).swap_remove(0);
    let (backup, recovery) = (KeyMaterial::generate(), public_key(&set));
    let by = BackupKey {
        id: crate::sample::BACKUP,
        material: &backup,
    };
    let contents = r#"{"deployment":"0192f0c1-0000-7000-8000-000000000001","keyrings":[]}"#;
    let vector = |about: &str, to: Option<&RecoveryPublicKey>| {
        let deployment = "0192f0c1-0000-7000-8000-000000000001".parse().unwrap();
        let bundle = DeploymentBundle::seal(deployment, contents.as_bytes(), by, to).unwrap();
        json!({
            "about": about,
            "backup_key": hex::encode(backup.expose_key_bytes()),
            "name": bundle.name(),
            "bundle": String::from_utf8_lossy(bundle.as_bytes()),
            "contents": contents,
        })
    };
    let all = [
        vector("with a RECOVERY key", Some(&recovery)),
        vector("without", None),
    ];
    let json = serde_json::to_string_pretty(&all).unwrap() + "\n";
    std::fs::write(path, json).unwrap();
}

fn by<'a>(bundle: &Bundle, material: &'a KeyMaterial) -> BackupKey<'a> {
    let id = bundle.backup_key();
    BackupKey { id, material }
}

fn assert_is_of(opened: &BackedUpKey, vector: &Value, seal: &str) {
    let mut told: Value = serde_json::from_str(text(&vector[seal], "plaintext")).unwrap();
    let members = told.as_object_mut().unwrap();
    let sha256 = members.remove("sha256").unwrap();
    let check_value = members.remove("check_value").unwrap();
    members.remove("material");
    assert_eq!(
        hex::encode(opened.material.expose_key_bytes()),
        vector["key"]
    );
    let expected = rekey_envelope::encode_base64(CheckValue::of(&opened.material).as_bytes());
    assert_eq!(check_value, expected);
    assert_eq!(sha256.as_str().map(str::len), Some(64));
    let details = &opened.details;
    let mut found = json!({
        "keyring": details.keyring,
        "keyring_name": details.keyring_name,
        "version": details.version,
        "purpose": details.purpose,
        "algorithm": details.algorithm,
    });
    for (name, time) in [
        ("created_at", Some(details.created_at)),
        ("activated_at", details.activated_at),
        ("deactivated_at", details.deactivated_at),
        ("expires_at", details.expires_at),
    ] {
        let Some(time) = time else { continue };
        found[name] = time
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
            .into();
    }
    assert_eq!(told, found);
}

fn bundle(vector: &Value) -> Bundle {
    let name = text(vector, "name").parse().unwrap();
    Bundle::read(&name, text(vector, "bundle").as_bytes()).unwrap()
}

/// The first set of the RECOVERY key that a bundle is sealed to.
fn recovery_of(bundle: &Bundle) -> Option<Value> {
    Some(set_of(&bundle.recovery_key()?.to_string()))
}

fn set_of(fingerprint: &str) -> Value {
    let mut sets = vectors("recovery-share.json", 2).into_iter();
    sets.find(|set| set["fingerprint"] == fingerprint).unwrap()
}

fn recovery_key(vector: &Value) -> RecoveryKey {
    let fingerprint = text(vector, "fingerprint").parse().unwrap();
    combine(&shares(vector), fingerprint).unwrap()
}

fn public_key(vector: &Value) -> RecoveryPublicKey {
    let bytes = hex::decode(text(vector, "public_key")).unwrap();
    RecoveryPublicKey::try_from(bytes.as_slice()).unwrap()
}

fn shares(vector: &Value) -> Vec<Share> {
    let texts = vector["shares"].as_array().unwrap().iter();
    let share = |text: &Value| Share::parse(text.as_str().unwrap().as_bytes()).unwrap();
    texts.map(share).collect()
}

fn key(vector: &Value, name: &str) -> KeyMaterial {
    KeyMaterial::from_slice(&hex::decode(text(vector, name)).unwrap()).unwrap()
}

/// The vectors of `file`; it holds `at_least` of them, as none is ever taken out.
fn vectors(file: &str, at_least: usize) -> Vec<Value> {
    let json = std::fs::read_to_string(formats().join(file)).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(vectors.len() >= at_least, "{file} has lost vectors");
    vectors
}

pub(crate) fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format")
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {vector}"))
}
