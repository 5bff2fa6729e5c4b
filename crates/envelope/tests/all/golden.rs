//! Golden files: what was encrypted once must decrypt for ever.
//!
//! A failure here means that stored data would become unreadable. The files are never changed, only
//! added to; the code is wrong.

use std::path::Path;

use rekey_domain::{Algorithm, BindValue};
use rekey_envelope::{CheckValue, Ciphertext, DataKey, KeyMaterial, associated_data};
use serde_json::Value;

#[test]
fn every_ciphertext_still_decrypts() {
    for vector in vectors("ciphertext.json", 14) {
        let algorithm: Algorithm = text(&vector, "algorithm").parse().unwrap();
        let id = text(&vector, "key_id").parse().unwrap();
        let key = DataKey::new(id, algorithm, &key(&vector)).unwrap();
        let bytes = hex::decode(text(&vector, "ciphertext")).unwrap();
        let ciphertext = Ciphertext::parse(&bytes).unwrap();
        let plaintext = key
            .decrypt(&ciphertext, &hex::decode(text(&vector, "aad")).unwrap())
            .unwrap();
        assert_eq!(
            *plaintext,
            hex::decode(text(&vector, "plaintext")).unwrap(),
            "{vector}"
        );
    }
}

#[test]
fn associated_data_is_still_the_same() {
    for vector in vectors("associated-data.json", 22) {
        let parts = vector["parts"].as_array().unwrap();
        let parts: Vec<BindValue> = parts.iter().map(bind_value).collect();
        let aad = associated_data(text(&vector, "column_id"), &parts);
        assert_eq!(aad, hex::decode(text(&vector, "aad")).unwrap(), "{vector}");
        assert_eq!(aad, text(&vector, "aad_as_text").as_bytes(), "{vector}");
    }
}

#[test]
fn check_values_are_still_the_same() {
    for vector in vectors("check-value.json", 3) {
        let expected = hex::decode(text(&vector, "check_value")).unwrap();
        assert_eq!(
            CheckValue::of(&key(&vector)).as_bytes(),
            expected.as_slice(),
            "{vector}"
        );
        let stored = CheckValue::try_from(expected.as_slice()).unwrap();
        assert!(stored.matches(&key(&vector)), "{vector}");
    }
}

/// The vectors of `file`; it holds `at_least` of them, as none is ever taken out.
fn vectors(file: &str, at_least: usize) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/format")
        .join(file);
    let json = std::fs::read_to_string(path).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(vectors.len() >= at_least, "{file} has lost vectors");
    vectors
}

fn bind_value(part: &Value) -> BindValue {
    let (kind, value) = part.as_object().unwrap().iter().next().unwrap();
    let as_text = || value.as_str().unwrap();
    match kind.as_str() {
        "integer" => BindValue::Integer(value.as_i64().unwrap()),
        "uuid" => BindValue::Uuid(
            hex::decode(as_text().replace('-', ""))
                .unwrap()
                .try_into()
                .unwrap(),
        ),
        "text" => BindValue::Text(as_text().to_owned()),
        "bytes" => BindValue::Bytes(hex::decode(as_text()).unwrap()),
        other => panic!("no bind value is called {other}"),
    }
}

fn key(vector: &Value) -> KeyMaterial {
    KeyMaterial::from_slice(&hex::decode(text(vector, "key")).unwrap()).unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {vector}"))
}
