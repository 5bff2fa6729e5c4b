//! Checkpoints: read by their name, believed by their signature, and refused where a byte is another.

use proptest::{collection::vec, prelude::*};
use rekey_backups::{
    AuditHead, Checkpoint, CheckpointError, MAX_CHECKPOINT_LEN, Previous, SignedCheckpoint,
    StatesDocument,
};
use rekey_domain::KeyId;
use rekey_envelope::{Jws, JwsError, PublicKey, SigningKey};

use crate::{golden::formats, sample::material, states::sample};

pub(crate) const SIGNING: KeyId = KeyId::new(0x5160_0001);
const TYP: &str = "rekey-checkpoint+json";

pub(crate) fn pair(seed: u8) -> SigningKey {
    SigningKey::new(&material(seed)).unwrap()
}

/// The key of the first test of RFC 8032 §7.1, which everyone knows.
fn golden_pair() -> SigningKey {
    let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let material = rekey_envelope::KeyMaterial::from_slice(&seed.unwrap());
    SigningKey::new(&material.unwrap()).unwrap()
}

pub(crate) fn checkpoint(counter: u64, previous: Option<Previous>) -> Checkpoint {
    Checkpoint {
        deployment: "0192f0c1-0000-7000-8000-000000000001".parse().unwrap(),
        counter,
        previous,
        audit: AuditHead {
            sequence: 4711,
            hash: [0xa0; 32],
        },
        states: StatesDocument::sha256_of(&sample().to_bytes()),
        written_at: "2026-12-01T08:00:00.123456Z".parse().unwrap(),
    }
}

fn signed() -> SignedCheckpoint {
    let (counter, sha256) = (41, [0x42; 32]);
    checkpoint(43, Some(Previous { counter, sha256 })).sign(SIGNING, &pair(1))
}

fn accepted(name: &str, bytes: &[u8], key: &PublicKey) -> Result<Checkpoint, CheckpointError> {
    let read = SignedCheckpoint::read(name, bytes)?;
    read.verify(SIGNING, key).cloned()
}

/// What is said of a payload that the right key signed, whatever it is.
fn read_payload(payload: &str) -> Result<SignedCheckpoint, CheckpointError> {
    let text = Jws::sign(payload.as_bytes(), TYP, SIGNING, &pair(1));
    SignedCheckpoint::read(&signed().name(), text.as_bytes())
}

fn payload() -> String {
    let text = String::from_utf8(signed().as_bytes().to_vec()).unwrap();
    let jws = Jws::parse(&text).unwrap();
    let keys = rekey_envelope::JwkSet {
        keys: vec![rekey_envelope::Jwk::new(SIGNING, &pair(1).public_key())],
    };
    String::from_utf8(jws.verify(TYP, &keys).unwrap().to_vec()).unwrap()
}

#[test]
fn it_is_read_and_verified_as_it_was_signed() {
    let one = signed();
    let read = SignedCheckpoint::read(&one.name(), one.as_bytes()).unwrap();
    assert_eq!(read, one);
    assert_eq!(read, signed());
    let checkpoint = read.verify(SIGNING, &pair(1).public_key()).unwrap();
    assert_eq!(checkpoint, one.claims());
    assert_eq!(checkpoint.counter, 43);
    assert_eq!(read.signed_by(), SIGNING);
    let first = checkpoint_of_a_new_deployment().sign(SIGNING, &pair(1));
    let read = accepted(&first.name(), first.as_bytes(), &pair(1).public_key());
    assert_eq!(read, Ok(checkpoint_of_a_new_deployment()));
}

fn checkpoint_of_a_new_deployment() -> Checkpoint {
    let audit = AuditHead::default();
    let first = checkpoint(1, None);
    Checkpoint { audit, ..first }
}

#[test]
fn names_are_in_the_order_of_counters() {
    let deployment = checkpoint(1, None).deployment;
    let name = |counter| Checkpoint::name_of(deployment, counter);
    let folder = "checkpoints/0192f0c1-0000-7000-8000-000000000001";
    assert_eq!(Checkpoint::folder(deployment), folder);
    assert_eq!(name(7), format!("{folder}/00000000000000000007.jws"));
    assert!(name(9) < name(10) && name(10) < name(u64::MAX));
    let states = checkpoint(1, None).states_name();
    let expected = StatesDocument::name_of(deployment, &sample().to_bytes());
    assert_eq!(states, expected);
}

#[test]
fn a_time_is_kept_to_the_microsecond() {
    let mut finer = checkpoint(1, None);
    finer.written_at += chrono::TimeDelta::nanoseconds(999);
    let signed = finer.sign(SIGNING, &pair(1));
    assert_eq!(signed, checkpoint(1, None).sign(SIGNING, &pair(1)));
}

#[test]
fn no_bit_of_it_can_be_changed() {
    let (one, key) = (signed(), pair(1).public_key());
    for at in 0..one.as_bytes().len() {
        for bit in 0..8 {
            let mut changed = one.as_bytes().to_vec();
            changed[at] ^= 1 << bit;
            let refused = accepted(&one.name(), &changed, &key);
            assert!(refused.is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn what_is_cut_or_extended_is_refused() {
    let (one, key) = (signed(), pair(1).public_key());
    let bytes = one.as_bytes();
    for end in 0..bytes.len() {
        assert!(accepted(&one.name(), &bytes[..end], &key).is_err(), "{end}");
    }
    for more in [&b" "[..], b"\n", b"\0", b".", b"=", b"A", bytes] {
        assert!(accepted(&one.name(), &[bytes, more].concat(), &key).is_err());
    }
}

#[test]
fn another_key_did_not_sign_it() {
    let (one, key) = (signed(), pair(1).public_key());
    let refused = one.verify(SIGNING, &pair(2).public_key()).err();
    let not_authentic = JwsError::NotAuthentic { kid: SIGNING };
    assert_eq!(refused, Some(CheckpointError::Signature(not_authentic)));
    let (expected, found) = (KeyId::new(7), SIGNING);
    let refused = one.verify(expected, &key).err();
    assert_eq!(refused, Some(CheckpointError::OtherKey { expected, found }));
}

/// A SIGNING key signs certificates too.
#[test]
fn something_else_that_the_key_signed_is_no_checkpoint() {
    let payload = payload();
    let text = Jws::sign(
        payload.as_bytes(),
        "rekey-certificate+json",
        SIGNING,
        &pair(1),
    );
    let refused = accepted(&signed().name(), text.as_bytes(), &pair(1).public_key());
    assert!(matches!(
        refused,
        Err(CheckpointError::Signature(JwsError::Type { .. }))
    ));
}

#[test]
fn it_is_read_under_its_own_name_only() {
    let one = signed();
    let deployment = one.claims().deployment;
    for name in [
        Checkpoint::name_of(deployment, 44),
        Checkpoint::name_of(uuid::Uuid::nil(), 43),
        one.name().to_uppercase(),
        format!("/{}", one.name()),
        String::new(),
    ] {
        let refused = SignedCheckpoint::read(&name, one.as_bytes()).err();
        let (expected, found) = (name, one.name());
        assert_eq!(
            refused,
            Some(CheckpointError::OtherName { expected, found })
        );
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |checkpoint: Checkpoint| {
        let signed = checkpoint.sign(SIGNING, &pair(1));
        SignedCheckpoint::read(&signed.name(), signed.as_bytes()).unwrap_err()
    };
    assert_eq!(refused(checkpoint(0, None)), CheckpointError::CounterZero);
    for (counter, previous) in [(7, 7), (7, 8), (7, 0), (1, 1), (1, u64::MAX)] {
        let before = Previous {
            counter: previous,
            sha256: [1; 32],
        };
        let error = refused(checkpoint(counter, Some(before)));
        assert_eq!(error, CheckpointError::Order { counter, previous });
    }
    let mut nothing_with_a_hash = checkpoint(7, None);
    nothing_with_a_hash.audit.sequence = 0;
    let error = refused(nothing_with_a_hash);
    assert_eq!(error, CheckpointError::AuditHead { counter: 7 });
}

#[test]
fn another_version_is_said_to_be_that() {
    for found in ["rekey.checkpoint/v2", "rekey.states/v1", ""] {
        let other = payload().replace("rekey.checkpoint/v1", found);
        let (expected, found) = ("rekey.checkpoint/v1", found.to_owned());
        let refused = read_payload(&other).err();
        assert_eq!(refused, Some(CheckpointError::Schema { expected, found }));
    }
}

#[test]
fn one_checkpoint_has_one_text() {
    let text = payload();
    assert!(read_payload(&text).is_ok());
    for (of, other) in [
        ("{\"schema\"", "{ \"schema\""),
        ("\"counter\":43", "\"counter\":43.0"),
        ("\"counter\":43", "\"counter\":43,\"more\":1"),
        ("\"counter\":43", "\"counter\":43,\"counter\":43"),
        ("123456Z", "1234560Z"),
        ("123456Z", "123456+00:00"),
        ("a0a0", "A0A0"),
        ("a0a0", "a0"),
        ("0192f0c1-", "0192F0C1-"),
        ("\"previous\":{", "\"previous\":null,\"x\":{"),
        ("4711", "-1"),
    ] {
        let changed = text.replacen(of, other, 1);
        assert_ne!(changed, text);
        let refused = read_payload(&changed).unwrap_err();
        let strict = matches!(
            refused,
            CheckpointError::OtherText | CheckpointError::Form { .. }
        );
        assert!(strict, "{refused}");
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let (limit, found) = (MAX_CHECKPOINT_LEN, MAX_CHECKPOINT_LEN + 1);
    let refused = SignedCheckpoint::read(&signed().name(), &vec![b'a'; found]).err();
    assert_eq!(refused, Some(CheckpointError::TooLong { limit, found }));
}

proptest! {
    #[test]
    fn what_nobody_made_is_refused_in_one_line(bytes in vec(any::<u8>(), 0..400), text in "[ -~]{0,12000}") {
        for error in [
            SignedCheckpoint::read(&signed().name(), &bytes).unwrap_err(),
            SignedCheckpoint::read(&text, signed().as_bytes()).unwrap_err(),
            SignedCheckpoint::read(&signed().name(), text.as_bytes()).unwrap_err(),
            read_payload(&text[..text.len().min(9000)]).unwrap_err(),
        ] {
            let shown = error.to_string();
            prop_assert!(shown.len() < 500 && !shown.contains('\n'), "{shown}");
        }
    }
}

/// Kept for ever: what was signed once must be read, verified and signed the same. `REKEY_BLESS=1` makes the files where
/// there are none yet.
#[test]
fn the_golden_checkpoint_is_still_read_and_signed_to_the_same_bytes() {
    let [signed_at, states_at] = ["checkpoint.jws", "states.json"].map(|file| formats().join(file));
    if std::env::var_os("REKEY_BLESS").is_some() && !signed_at.exists() {
        let (counter, sha256) = (41, [0x42; 32]);
        let golden = checkpoint(43, Some(Previous { counter, sha256 }));
        let signed = golden.sign(SIGNING, &golden_pair());
        std::fs::write(&signed_at, signed.as_bytes()).unwrap();
        std::fs::write(&states_at, sample().to_bytes()).unwrap();
    }
    let bytes = std::fs::read(signed_at).unwrap();
    let name = Checkpoint::name_of(checkpoint(43, None).deployment, 43);
    let read = SignedCheckpoint::read(&name, &bytes).unwrap();
    let said = read.verify(SIGNING, &golden_pair().public_key()).unwrap();
    assert_eq!(said.audit, checkpoint(43, None).audit);
    assert_eq!(said.written_at, checkpoint(43, None).written_at);
    assert_eq!(said.previous.unwrap().counter, 41);
    assert_eq!(said.previous.unwrap().sha256, [0x42; 32]);
    assert_eq!(said.sign(SIGNING, &golden_pair()).as_bytes(), bytes);
    let states = std::fs::read(states_at).unwrap();
    let document = StatesDocument::read(&said.states_name(), &states).unwrap();
    let tombstone = &document.keys[5];
    assert_eq!(document.keys.len(), 6);
    assert_eq!(tombstone.key_id, KeyId::new(0x0a1b_2c42));
    assert_eq!(tombstone.state, rekey_domain::KeyState::Destroyed);
    assert_eq!(tombstone.bundle, None);
    assert_eq!(document.to_bytes(), states);
}
