//! The golden file of certificates, and hostile files beside it.

use rekey_domain::{
    Algorithm, KeyId, KeyState, Purpose, QuarantineReason, RotationKind, RotationReason,
};
use rekey_envelope::{Jwk, JwkSet, Jws, JwsError, KeyMaterial, SigningKey};
use serde_json::{Value, json};

use super::{
    clauses::supports,
    content::{
        CensusLine, Certificate, KeyFacts, PolicyFacts, Quarantine, QuarantineCount, SCHEMA,
        SignedBy,
    },
    verify::{CertificateError, LIMIT, TYP, Verified, verify_certificate},
};

const KID: KeyId = KeyId::new(0x0a1b_2c3d);

/// A scheduled rotation of a quarter, with two values in quarantine.
pub fn example() -> Certificate {
    let time = |text: &str| text.parse().unwrap();
    let key = |key: &str, id, created: &str, activated: &str, deactivated: Option<&str>| KeyFacts {
        key: key.parse().unwrap(),
        key_id: KeyId::new(id),
        algorithm: Algorithm::Aes256Gcm,
        created_at: time(created),
        activated_at: Some(time(activated)),
        deactivated_at: deactivated.map(time),
        used: if id == 1 { 4_096 } else { 1_024 },
    };
    let line = |under: &str, id, rows| CensusLine {
        place: None,
        column: Some("clinic.patients.ssn".to_owned()),
        under: under.to_owned(),
        key_id: Some(KeyId::new(id)),
        rows,
    };
    let switched = "2026-03-31T00:01:00Z";
    Certificate {
        schema: SCHEMA.to_owned(),
        rotation: "0195e7c8-0000-7000-8000-000000000001".parse().unwrap(),
        kind: RotationKind::Switch,
        columns: Vec::new(),
        deployment: "0192f0c1-0000-7000-8000-000000000001".parse().ok(),
        written_by: Some("rekey-rotator 0.1.0".to_owned()),
        keyring: "phi".parse().unwrap(),
        purpose: Some(Purpose::Phi),
        from: "phi/1".parse().ok(),
        to: "phi/2".parse().ok(),
        keys: vec![
            key(
                "phi/1",
                1,
                "2025-12-31T12:00:00Z",
                "2026-01-01T00:00:00Z",
                Some(switched),
            ),
            key("phi/2", 2, "2026-01-01T00:00:10Z", switched, None),
        ],
        reason: RotationReason::Schedule,
        requested_by: "schedule:phi".parse().unwrap(),
        requested_at: time("2026-03-31T00:00:00Z"),
        switched_at: Some(time(switched)),
        leases_ended_at: Some(time("2026-03-31T00:06:00Z")),
        counted_before_at: Some(time("2026-03-31T00:01:05Z")),
        counted_after_at: Some(time("2026-04-07T00:02:00Z")),
        completed_at: time("2026-04-07T00:02:01Z"),
        acts: Vec::new(),
        incidents: Vec::new(),
        exposure: None,
        passes: 2,
        moved: 998,
        opened: None,
        conflicts: 3,
        quarantined: 2,
        quarantine: Quarantine {
            by_reason: vec![QuarantineCount {
                reason: QuarantineReason::Unopened,
                values: 2,
            }],
            values: Vec::new(),
            more: 2,
        },
        census_before: vec![line("phi/1", 1, 1_000)],
        census_after: vec![line("phi/1", 1, 2), line("phi/2", 2, 998)],
        backups: Vec::new(),
        gates_off: vec!["backup".to_owned()],
        policy: Some(PolicyFacts {
            backup: "off".to_owned(),
            encrypt_lease: "5m".to_owned(),
            grace_period: "7d".to_owned(),
            key_lifetime: "90d".to_owned(),
            max_encryptions: 1 << 31,
        }),
        supports: Vec::new(),
        signed_by: None,
    }
}

/// The seed of RFC 8032's first test, known to everyone.
fn golden_key() -> SigningKey {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let digits: Vec<u8> = seed
        .chars()
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    SigningKey::new(&KeyMaterial::from_slice(&bytes).unwrap()).unwrap()
}

fn published(state: KeyState) -> JwkSet {
    let mut key = Jwk::new(KID, &golden_key().public_key());
    key.name = "signing/1".parse().ok();
    key.state = Some(state);
    JwkSet { keys: vec![key] }
}

fn payload() -> Value {
    let mut certificate = example();
    certificate.supports = supports(&certificate);
    certificate.signed_by = Some(SignedBy {
        key: "signing/1".parse().unwrap(),
        key_id: KID,
        signed_at: "2026-04-07T00:02:02Z".parse().unwrap(),
    });
    serde_json::to_value(certificate).unwrap()
}

fn sign(payload: &Value) -> String {
    Jws::sign(payload.to_string().as_bytes(), TYP, KID, &golden_key())
}

fn file(jws: &str, certificate: &Value) -> Vec<u8> {
    let object =
        json!({ "schema": "rekey.signed-certificate/v1", "jws": jws, "certificate": certificate });
    object.to_string().into_bytes()
}

fn verify(file: &[u8]) -> Result<Verified, CertificateError> {
    verify_certificate(file, &published(KeyState::Active))
}

#[test]
fn the_golden_certificate_still_verifies() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/format/certificate.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for vector in vectors["vectors"].as_array().unwrap() {
        let keys = JwkSet::parse(vector["keys"].to_string().as_bytes()).unwrap();
        let jws = vector["jws"].as_str().unwrap();
        let verified = verify_certificate(jws.as_bytes(), &keys).unwrap();
        assert_eq!(verified.payload, vector["certificate"]);
        let whole = file(jws, &vector["certificate"]);
        assert!(verify_certificate(&whole, &keys).is_ok());
    }
}

#[test]
fn what_is_signed_today_is_what_the_golden_file_shows() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/format/certificate.json"
    );
    if std::env::var_os("REKEY_GOLDEN").is_some() {
        let vector = json!({ "keys": published(KeyState::Active), "certificate": payload(), "jws": sign(&payload()) });
        let text = serde_json::to_string_pretty(&json!({ "vectors": [vector] })).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
    let mut vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut golden = vectors["vectors"][0]["certificate"].take();
    let mut today = payload();
    for payload in [&mut today, &mut golden] {
        // What is supported stays; the sentences that say so are no part of the format.
        for support in payload["supports"].as_array_mut().unwrap() {
            support["fact"].take();
        }
    }
    // What is called unopened now; a verifier knows both names.
    let reason = &mut golden["quarantine"]["by_reason"][0]["reason"];
    assert_eq!(reason.take(), "corrupt");
    *reason = json!("unopened");
    for (field, value) in golden.as_object().unwrap() {
        assert_eq!(today[field], *value, "{field}: fields are only added");
    }
}

#[test]
fn a_certificate_verifies_as_a_file_and_as_its_signed_text_alone() {
    let jws = sign(&payload());
    for whole in [file(&jws, &payload()), format!("{jws}\n").into_bytes()] {
        let verified = verify(&whole).unwrap();
        assert_eq!(verified.key.kid, KID);
        assert_eq!(verified.certificate.moved, 998);
    }
    for state in [KeyState::Pending, KeyState::Inactive, KeyState::Destroyed] {
        assert!(
            verify_certificate(jws.as_bytes(), &published(state)).is_ok(),
            "{state}"
        );
    }
}

#[test]
fn fields_of_a_later_program_are_kept_and_do_no_harm() {
    let mut later = payload();
    later["more"] = json!({ "x": [1, 2] });
    let verified = verify(sign(&later).as_bytes()).unwrap();
    assert_eq!(verified.payload["more"]["x"][1], 2);
}

#[test]
fn what_a_file_shows_beside_what_is_signed_must_be_the_same() {
    let mut shown = payload();
    shown["quarantined"] = json!(0);
    let error = verify(&file(&sign(&payload()), &shown)).unwrap_err();
    assert!(
        matches!(error, CertificateError::ShowsAnother { kid: KID }),
        "{error}"
    );
}

#[test]
fn a_compromised_key_vouches_for_nothing() {
    let jws = sign(&payload());
    let error = verify_certificate(jws.as_bytes(), &published(KeyState::Compromised));
    assert!(matches!(
        error,
        Err(CertificateError::Compromised { kid: KID })
    ));
}

#[test]
fn hostile_files_are_refused() {
    let jws = sign(&payload());
    let (head, signature) = jws.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let mut moved = payload();
    moved["moved"] = json!(1_000_000);
    let other = sign(&moved);
    let other_payload = other.split('.').nth(1).unwrap();
    let mut of_another_schema = payload();
    of_another_schema["schema"] = json!("rekey.certificate/v2");
    let mut of_another_signer = payload();
    of_another_signer["signed_by"]["key_id"] = json!("00000001");
    let mut unsigned = payload();
    unsigned.as_object_mut().unwrap().remove("signed_by");
    let whole = file(&jws, &payload());
    let files: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"{".to_vec(),
        b"{}".to_vec(),
        br#"{"jws":null}"#.to_vec(),
        br#"{"jws":7}"#.to_vec(),
        vec![0xff; 1_000],
        "[".repeat(100_000).into_bytes(),
        format!(r#"{{"certificate":{}"#, "[".repeat(100_000)).into_bytes(),
        format!("{header}.{other_payload}.{signature}").into_bytes(),
        format!("{head}.").into_bytes(),
        whole[..whole.len() - 1].to_vec(),
        // A field that is there twice: a reader sees one, and the verifier compares the other.
        format!(
            r#"{{"certificate":{moved},"certificate":{},"jws":"{jws}"}}"#,
            payload()
        )
        .into_bytes(),
        whole[..whole.len() / 2].to_vec(),
        jws.as_bytes()[..jws.len() - 1].to_vec(),
        sign(&of_another_schema).into_bytes(),
        sign(&of_another_signer).into_bytes(),
        sign(&unsigned).into_bytes(),
        sign(&json!("text")).into_bytes(),
    ];
    for file in files {
        let shown = String::from_utf8_lossy(&file[..file.len().min(60)]).into_owned();
        assert!(verify(&file).is_err(), "{shown}");
    }
    let huge = [whole, vec![b' '; LIMIT]].concat();
    assert!(matches!(verify(&huge), Err(CertificateError::TooLarge)));
    let nobody = verify_certificate(jws.as_bytes(), &JwkSet::default()).unwrap_err();
    let unknown = JwsError::UnknownKey { kid: KID };
    assert!(matches!(nobody, CertificateError::Signature(error) if error == unknown));
}
