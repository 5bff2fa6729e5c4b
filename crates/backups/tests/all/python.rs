//! Bundles and shares are read by programs that are not ours, with a library that is not ours.

use std::{fs, path::Path, process::Command};

use rekey_backups::RecoveryKey;
use serde_json::Value;

use crate::{
    deployments::sealed,
    golden::formats,
    sample::{bundles, phi_key},
};

/// Every vector, its nonce and its 64 bytes of an encapsulation derived anew.
#[test]
fn python_opens_every_golden_bundle_from_shares() {
    let checks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/vectors.py");
    let said = python(&[&checks, &formats()]);
    assert_eq!(said.trim(), "2 sets of shares and 6 bundles");
}

/// What a holder does who has a bundle, shares and no Rekey.
#[test]
fn the_program_beside_the_format_opens_a_bundle_of_today() {
    let recovery = RecoveryKey::generate();
    let [bundle, _] = bundles(Some(&recovery.public_key()));
    let opened = opened_by_the_program(bundle.as_bytes(), &recovery);
    let material = rekey_envelope::encode_base64(phi_key().material.expose_key_bytes());
    assert_eq!(opened["material"], material);
    assert_eq!(opened["keyring_name"], "phi");
    let deployment = sealed(Some(&recovery));
    let opened = opened_by_the_program(deployment.as_bytes(), &recovery);
    assert_eq!(opened["keyrings"][0]["name"], "tenant-hiv");
}

fn opened_by_the_program(bundle: &[u8], recovery: &RecoveryKey) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut files = vec![formats().join("open_bundle.py")];
    files.push(write("bundle.json", bundle));
    for share in &recovery.split(3, 5, 0).unwrap()[2..] {
        let name = format!("share-{}.json", share.index());
        files.push(write(&name, share.to_text().as_bytes()));
    }
    serde_json::from_str(&python(&files)).unwrap()
}

fn python(arguments: &[impl AsRef<Path>]) -> String {
    let mut command = Command::new(rekey_testkit::hpke::python());
    // Alone, and without files of its own beside the programs.
    command.args(["-I", "-B"]);
    command.args(arguments.iter().map(AsRef::as_ref));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
