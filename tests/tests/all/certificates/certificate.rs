//! Certificates: signed when a rotation completes, verified by anyone, for ever.

use std::{fs, path::Path, process::Command, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_client::{ClientError, LeaseError};
use rekey_domain::{KeyState, KeyringName, KeyringPolicy, RotationState, Timing};
use rekey_envelope::JwkSet;
use rekey_kms::{LocalKms, MasterKeyState};
use rekey_operations::{
    RotationView,
    certificates::{
        CertificateView, Signature, certificate, published_keys,
        verify::{Verified, verify_certificate},
    },
    rotation_view, status,
};
use serde_json::{Value, json};

use rekey_tests::{
    cluster::{Cluster, Policy},
    support::{Deployment, Engine, operator, phi, short, until},
};

fn signing() -> KeyringName {
    "signing".parse().unwrap()
}

/// Rotates a keyring and waits until the certificate is signed.
async fn rotated(clinic: &Deployment, keyring: &KeyringName) -> (RotationView, CertificateView) {
    let before = clinic.rotation(keyring).await.map(|view| view.id);
    clinic.rotate(keyring).await;
    let view = until("a completed rotation", async || {
        let view = clinic.rotation(keyring).await?;
        let completed = view.state == RotationState::Completed && Some(view.id) != before;
        completed.then_some(view)
    })
    .await;
    let certificate = signed(clinic, &view).await;
    (view, certificate)
}

async fn signed(clinic: &Deployment, view: &RotationView) -> CertificateView {
    until("a signature", async || {
        let shown = certificate(&clinic.services, view.id, &operator())
            .await
            .unwrap();
        (shown.signature == Signature::Signed).then_some(shown)
    })
    .await
}

/// By which key it is signed, as someone says who has nothing but the keys.
fn signer(certificate: &CertificateView, keys: &JwkSet) -> String {
    let jws = certificate.jws.as_deref().unwrap();
    let Verified { key, payload, .. } = verify_certificate(jws.as_bytes(), keys).unwrap();
    assert_eq!(payload, certificate.payload);
    key.name.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_outlives_the_key_that_signed_it() {
    let clinic = Deployment::of(60).await;
    let engine = Engine::start(&clinic.services);
    let published_before = published_keys(&clinic.services, &operator()).await.unwrap();
    let (first, old) = rotated(&clinic, &phi()).await;
    assert_eq!(signer(&old, &published_before), "signing/1");
    let (_, of_signing) = rotated(&clinic, &signing()).await;
    let (_, new) = rotated(&clinic, &phi()).await;
    let keys = published_keys(&clinic.services, &operator()).await.unwrap();
    engine.stop().await;

    assert_eq!(signer(&old, &keys), "signing/1");
    for later in [&of_signing, &new] {
        assert_eq!(signer(later, &keys), "signing/2");
        // The standby was published before it signed.
        assert_eq!(signer(later, &published_before), "signing/2");
    }
    let states: Vec<_> = keys.keys.iter().map(|key| key.state.unwrap()).collect();
    assert_eq!(states[..2], [KeyState::Inactive, KeyState::Active]);
    assert_eq!(
        clinic
            .audited("certificate.signed", &first.id.to_string())
            .await,
        1
    );
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
    let of_signing = clinic.rotation(&signing()).await.unwrap();
    assert_eq!((of_signing.batches, of_signing.moved), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_what_happened_and_what_that_supports() {
    let clinic = Deployment::of(60).await;
    clinic
        .in_source("UPDATE patients SET ssn = x'00' WHERE id = 3")
        .await;
    let engine = Engine::start(&clinic.services);
    let (view, shown) = rotated(&clinic, &phi()).await;
    engine.stop().await;

    let said = &shown.payload;
    assert_eq!(said["schema"], "rekey.certificate/v1");
    assert_eq!(
        (&said["keyring"], &said["purpose"]),
        (&json!("phi"), &json!("PHI"))
    );
    assert_eq!(said["requested_by"], "os:ana@clinic");
    assert_eq!(
        (&said["from"], &said["to"]),
        (&json!("phi/1"), &json!("phi/2"))
    );
    assert_eq!(said["keys"][1]["algorithm"], "AES-256-GCM");
    assert_eq!(said["gates_off"], json!(["backup"]));
    assert_eq!(
        said["quarantine"]["by_reason"],
        json!([{ "reason": "not-ciphertext", "values": 1 }])
    );
    assert_eq!(
        said["quarantine"]["values"][0]["column"],
        "clinic.patients.ssn"
    );
    let row = |row: &str| said["quarantine"].to_string().contains(row);
    assert!(!row("row_key") && !row("\"3\""), "{}", said["quarantine"]);
    let sum = |census: &str, under: &str| -> i64 {
        let lines = said[census].as_array().unwrap().iter();
        let of_key = lines.filter(|line| line["under"] == under);
        of_key.map(|line| line["rows"].as_i64().unwrap()).sum()
    };
    let all = i64::try_from(clinic.values()).unwrap();
    assert_eq!(
        (sum("census_before", "phi/1"), sum("census_after", "phi/2")),
        (all - 1, all - 1)
    );
    assert_eq!(sum("census_after", "phi/1"), 0);
    let clauses = said["supports"].as_array().unwrap().iter();
    let clauses: Vec<_> = clauses
        .map(|support| support["clause"].as_str().unwrap())
        .collect();
    assert_eq!(clauses.len(), 5, "{clauses:?}");
    assert_eq!(said["rotation"], json!(view.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_given_before_the_policy_was_lowered_is_waited_for_and_certified() {
    let long = Duration::from_secs(5);
    let policy = KeyringPolicy {
        timing: Timing {
            grace_period: long,
            ..short().timing
        },
        encrypt_lease: long,
        ..short()
    };
    let clinic = Deployment::with(40, policy).await;
    let lowered = |policy: &mut KeyringPolicy, _: &mut _| *policy = short();
    clinic.apply(lowered).await;
    let engine = Engine::start(&clinic.services);
    let (view, _) = rotated(&clinic, &phi()).await;
    engine.stop().await;
    let said = view.certificate.unwrap();
    let time = |field: &str| -> DateTime<Utc> { said[field].as_str().unwrap().parse().unwrap() };
    let until = time("switched_at") + long;
    assert!(
        time("counted_after_at") >= until,
        "counted while a lease lived: {said}"
    );
    let ended = time("leases_ended_at");
    assert!(
        ended >= until && time("counted_after_at") >= ended,
        "{said}"
    );
    let ended = ended.to_rfc3339_opts(SecondsFormat::Millis, true);
    let facts = said["supports"].to_string();
    let sentence = format!("no process began an encryption under it after {ended}");
    assert!(facts.contains(&sentence), "{facts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_completes_while_the_kms_is_disabled_and_its_certificate_is_signed_later() {
    let policy = KeyringPolicy {
        timing: Timing {
            grace_period: Duration::from_secs(3),
            ..short().timing
        },
        ..short()
    };
    let clinic = Deployment::with(60, policy).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    clinic.reaches(&phi(), RotationState::Grace).await;
    clinic.has_a_new_standby().await;
    let master_key = clinic.disks.state("master.key");
    let disabled = LocalKms::set_state(&master_key, MasterKeyState::Disabled).await;
    disabled.unwrap();
    let view = clinic.completes().await;
    until("an attempt to sign", async || {
        clinic.no_message_waits().await.then_some(())
    })
    .await;
    let view = rotation_view(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    assert_eq!(view.certificate_signature, Some(Signature::Waits));
    let shown = certificate(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    assert_eq!((shown.jws, shown.signature), (None, Signature::Waits));
    assert_eq!(shown.certificate.moved, clinic.values());
    let now = status(&clinic.services, &operator()).await.unwrap();
    assert_eq!(now.unsigned_certificates, [view.id]);
    let of_kms = |need: &String| need.contains("is disabled; enable it");
    assert!(now.needs_a_person.iter().all(of_kms), "{now:?}");
    // Ten minutes have passed.
    let earlier = "UPDATE rotation SET ended_at = '2020' || substr(ended_at, 5)";
    clinic.in_store(earlier).await;
    let now = status(&clinic.services, &operator()).await.unwrap();
    let mut needs = now.needs_a_person.iter();
    assert!(needs.any(|need| need.contains("is unsigned")), "{now:?}");

    let enabled = LocalKms::set_state(&master_key, MasterKeyState::Enabled).await;
    enabled.unwrap();
    let due = "UPDATE rotation SET certificate_due = 0 WHERE certificate_due IS NOT NULL";
    clinic.in_store(due).await;
    let shown = signed(&clinic, &view).await;
    engine.stop().await;
    let keys = published_keys(&clinic.services, &operator()).await.unwrap();
    assert_eq!(signer(&shown, &keys), "signing/1");
    let now = status(&clinic.services, &operator()).await.unwrap();
    assert!(now.unsigned_certificates.is_empty(), "{now:?}");
    let of_workers = |need: &String| need.starts_with("no worker runs");
    assert!(now.needs_a_person.iter().all(of_workers), "{now:?}");
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_program_before_stays_readable_and_unsigned() {
    let clinic = Deployment::of(30).await;
    let engine = Engine::start(&clinic.services);
    let (view, _) = rotated(&clinic, &phi()).await;
    engine.stop().await;
    let written = r#"UPDATE rotation SET certificate_jws = NULL, certificate_due = NULL, certificate =
        '{"census_after":[{"column":"clinic.patients.ssn","rows":30,"under":"phi/2"}],"census_before":[],
        "completed_at":"2026-04-07T00:02:01Z","conflicts":0,"from":"phi/1","gates_off":["backup"],
        "keyring":"phi","moved":30,"passes":2,"quarantined":0,"reason":"request",
        "requested_at":"2026-03-31T00:00:00Z","requested_by":"os:ana@clinic",
        "rotation":"0195e7c8-0000-7000-8000-000000000001","schema":"rekey.certificate/v1",
        "switched_at":"2026-03-31T00:01:00Z","to":"phi/2"}'"#;
    clinic.in_store(written).await;
    let shown = certificate(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    assert_eq!(shown.signature, Signature::Unsigned);
    assert_eq!((shown.certificate.moved, shown.jws), (30, None));
    let now = status(&clinic.services, &operator()).await.unwrap();
    assert!(now.unsigned_certificates.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_was_put_into_the_store_is_not_shown_as_one() {
    let clinic = Deployment::of(30).await;
    let engine = Engine::start(&clinic.services);
    let (view, _) = rotated(&clinic, &phi()).await;
    engine.stop().await;
    let forged = "UPDATE rotation SET certificate_jws = replace(certificate_jws, '.', '.e')";
    clinic.in_store(forged).await;
    assert!(
        certificate(&clinic.services, view.id, &operator())
            .await
            .is_err()
    );
    let shown = rotation_view(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    assert_eq!(
        (shown.certificate, shown.certificate_signature),
        (None, Some(Signature::Bad))
    );
}

/// What is shown as signed is what was signed, whatever else the store has of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_changed_beside_its_signature_is_shown_as_it_was_signed() {
    let clinic = Deployment::of(30).await;
    let engine = Engine::start(&clinic.services);
    let (view, _) = rotated(&clinic, &phi()).await;
    signed(&clinic, &view).await;
    engine.stop().await;
    let before = rotation_view(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    clinic
        .in_store(
            "UPDATE rotation SET certificate = replace(certificate, '\"moved\":', '\"moved\":9')",
        )
        .await;
    let after = rotation_view(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    assert_eq!(after.certificate_signature, Some(Signature::Signed));
    assert_eq!(after.certificate, before.certificate);
    assert!(after.certificate.is_some());
}

#[tokio::test]
async fn nothing_is_encrypted_or_decrypted_with_a_key_that_signs() {
    let clinic = Deployment::of(0).await;
    let client = &clinic.services.client;
    let id = clinic.key_id(&signing(), 1).await;
    for refused in [
        client.encryption_key(&signing(), 1).await,
        client.decryption_key(&signing(), id).await,
    ] {
        let refused = refused.err();
        let of_purpose = matches!(&refused, Some(ClientError::Lease(LeaseError::Refused { reason }))
            if reason.contains("purpose SIGNING"));
        assert!(of_purpose, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_processes_with_their_own_rights_signed_is_verified_by_anyone_offline() {
    let cluster = Cluster::of(200, Policy::default()).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    let id = view.id.to_string();
    let print = |arguments: &[&str]| cluster.rekey(&[&["--output", "json"], arguments].concat());
    let file = until("a signature", async || {
        let file = print(&["rotations", "certificate", &id]);
        file.contains("\"signature\":\"signed\"").then_some(file)
    })
    .await;
    let keys = print(&["keys", "public"]);
    let page = cluster.rekey(&["rotations", "certificate", &id]);
    assert!(
        page.contains("by signing/1") && page.contains("PCI DSS"),
        "{page}"
    );
    for worker in workers {
        worker.terminate().await;
    }
    let elsewhere = Elsewhere::with(&keys, &file);
    assert_eq!(
        elsewhere.verify("certificate.json"),
        (0, "good: signed by signing/1".to_owned())
    );
    let believed = elsewhere.verify_with_a_foreign_library();
    let certificate: Value = serde_json::from_str::<Value>(&file).unwrap()["certificate"].take();
    assert_eq!(believed, certificate);

    let jws: Value = serde_json::from_str(&file).unwrap();
    let jws = jws["jws"].as_str().unwrap();
    elsewhere.write("alone", jws.as_bytes());
    assert_eq!(elsewhere.verify("alone").0, 0);
    let cut = &file[..file.len() / 2];
    let altered = file.replace("\"moved\":", "\"moved\":1");
    let none = jws.replacen(jws.split('.').next().unwrap(), "eyJhbGciOiJub25lIn0", 1);
    let huge = vec![b'a'; 10 << 20];
    for hostile in [
        cut.as_bytes(),
        altered.as_bytes(),
        none.as_bytes(),
        b"",
        &huge,
    ] {
        elsewhere.write("hostile", hostile);
        assert_eq!(elsewhere.verify("hostile").0, 1, "{} bytes", hostile.len());
    }
    // Another deployment's keys have other ids and other bytes.
    elsewhere.write("keys.json", br#"{"keys":[]}"#);
    assert_eq!(elsewhere.verify("certificate.json").0, 1);
    elsewhere.write("keys.json", b"{");
    assert_eq!(elsewhere.verify("certificate.json").0, 2);
}

/// A machine that has the program, two files, and nothing else of the deployment.
struct Elsewhere(tempfile::TempDir);

impl Elsewhere {
    fn with(keys: &str, certificate: &str) -> Self {
        let elsewhere = Self(tempfile::tempdir().unwrap());
        elsewhere.write("keys.json", keys.as_bytes());
        elsewhere.write("certificate.json", certificate.as_bytes());
        elsewhere
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    /// The exit code, and the first words of what was said.
    fn verify(&self, name: &str) -> (i32, String) {
        let mut command = Command::new(rekey_testkit::program("rekey"));
        command.args([
            "rotations",
            "verify-certificate",
            name,
            "--keys",
            "keys.json",
        ]);
        let done = command
            .current_dir(self.0.path())
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let said = said.split(',').next().unwrap_or_default();
        (done.status.code().unwrap(), said.to_owned())
    }

    fn verify_with_a_foreign_library(&self) -> Value {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/certificates/jose_peer.py");
        let mut command = Command::new(rekey_testkit::jose::python());
        command
            .arg("-I")
            .arg(script)
            .args(["keys.json", "certificate.json"]);
        let done = command.current_dir(self.0.path()).output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        serde_json::from_slice(&done.stdout).unwrap()
    }
}
