//! Interoperability with Tink itself: each reads what the other wrote, and refuses what it should.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rekey_domain::{Algorithm, KeyId};
use rekey_envelope::{Ciphertext, DataKey, KeyMaterial};
use serde_json::{Value, json};

const KEY: [u8; 32] = *b"a key of thirty-two bytes, no le";
const AAD: &[u8] = "clinic.public.patients.notes/7/Zoë%2F".as_bytes();
/// Around the cipher's block, its parallel blocks, and larger than a pipe's buffer.
const SIZES: [usize; 12] = [
    0,
    1,
    15,
    16,
    17,
    127,
    128,
    129,
    1_000,
    65_536,
    100_003,
    1 << 20,
];
/// The edges of 32 bits: Tink's ids are unsigned.
const KEY_IDS: [u32; 5] = [1, 0x0a1b_2c3d, 0x7fff_ffff, 0x8000_0000, u32::MAX];

#[test]
fn rekey_decrypts_what_tink_encrypted() {
    let mut tink = Tink::start();
    for (key, plaintext) in cases() {
        for aad in [AAD, b""] {
            let bytes = tink.encrypt(key.id(), &plaintext, aad).unwrap();
            let ciphertext = Ciphertext::parse(&bytes).unwrap();
            assert_eq!(ciphertext.key_id(), key.id());
            assert_eq!(*key.decrypt(&ciphertext, aad).unwrap(), plaintext);
            assert!(key.decrypt(&ciphertext, b"another place").is_err());
        }
    }
}

#[test]
fn tink_decrypts_what_rekey_encrypted() {
    let mut tink = Tink::start();
    for (key, plaintext) in cases() {
        for aad in [AAD, b""] {
            let bytes = key.encrypt(&plaintext, aad).unwrap();
            assert_eq!(tink.decrypt(key.id(), &bytes, aad).unwrap(), plaintext);
            assert!(tink.decrypt(key.id(), &bytes, b"another place").is_err());
        }
    }
}

#[test]
fn both_refuse_the_same() {
    let mut tink = Tink::start();
    let key = key(7);
    let bytes = key.encrypt(b"123-45-6789", AAD).unwrap();
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        assert!(
            tink.decrypt(key.id(), &changed, AAD).is_err(),
            "byte {index}"
        );
        let opened = Ciphertext::parse(&changed).map(|c| key.decrypt(&c, AAD).is_ok());
        assert_ne!(opened, Ok(true), "byte {index}");
    }
    let other = KeyId::new(8);
    assert!(tink.decrypt(other, &bytes, AAD).is_err());
}

fn cases() -> Vec<(DataKey, Vec<u8>)> {
    let ids = KEY_IDS.iter().cycle();
    let plaintext = |&len: &usize| (0..len).map(|index| (index % 251) as u8).collect();
    let plaintexts = SIZES.iter().map(plaintext);
    ids.zip(plaintexts)
        .map(|(&id, plaintext)| (key(id), plaintext))
        .collect()
}

fn key(id: u32) -> DataKey {
    let material = KeyMaterial::from_slice(&KEY).expect("the key has 32 bytes");
    DataKey::new(KeyId::new(id), Algorithm::Aes256Gcm, &material).unwrap()
}

/// A Python process that answers with Tink, one line for one line.
struct Tink {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Tink {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/keys/tink_peer.py");
        let mut process = Command::new(rekey_testkit::tink::python())
            // Isolated, so that nothing beside the script or in the environment is imported.
            .args(["-I", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Self {
            requests: process.stdin.take().expect("stdin is piped"),
            answers: BufReader::new(process.stdout.take().expect("stdout is piped")),
            process,
        }
    }

    fn encrypt(&mut self, id: KeyId, plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, String> {
        self.ask("encrypt", id, plaintext, aad)
    }

    fn decrypt(&mut self, id: KeyId, ciphertext: &[u8], aad: &[u8]) -> Result<Vec<u8>, String> {
        self.ask("decrypt", id, ciphertext, aad)
    }

    fn ask(&mut self, op: &str, id: KeyId, data: &[u8], aad: &[u8]) -> Result<Vec<u8>, String> {
        let request = json!({
            "op": op,
            "key": hex::encode(KEY),
            "key_id": id.value(),
            "aad": hex::encode(aad),
            "data": hex::encode(data),
        });
        writeln!(self.requests, "{request}").expect("Tink's process reads its requests");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the answer is text");
        let answer: Value = serde_json::from_str(&line).expect("Tink's process answers in JSON");
        match answer["data"].as_str() {
            Some(data) => Ok(hex::decode(data).expect("Tink's process answers in hex")),
            None => Err(answer["error"].as_str().expect("data or error").to_owned()),
        }
    }
}

impl Drop for Tink {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
