//! Properties of ciphertext, associated data and text prefixes, over arbitrary values.

use proptest::{collection::vec, prelude::*};
use rekey_domain::{Algorithm, BindValue, KeyId};
use rekey_envelope::{
    Ciphertext, DataKey, FINGERPRINT_LEN, KeyMaterial, PREFIX_LEN, associated_data, decode_base64,
    encode_base64, key_id_of_text_prefix, prefix, text_prefixes,
};

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(&Algorithm::ALL[..])
}

/// Short, so that separators and escapes meet often.
const TRICKY: &str = "[/%2F5aé]{0,4}";

proptest! {
    #[test]
    fn the_parser_takes_any_bytes(bytes in vec(any::<u8>(), 0..80), marked: bool) {
        let bytes = if marked { [&[1], bytes.as_slice()].concat() } else { bytes };
        if let Ok(ciphertext) = Ciphertext::parse(&bytes) {
            prop_assert_eq!(ciphertext.as_bytes(), bytes.as_slice());
            prop_assert_eq!(ciphertext.fingerprint().len(), FINGERPRINT_LEN);
            let parts = [prefix(ciphertext.key_id()).as_slice(), ciphertext.body()].concat();
            prop_assert_eq!(parts, bytes);
        }
    }

    #[test]
    fn any_text_is_decoded_or_refused(text in any::<String>()) {
        let _ = key_id_of_text_prefix(&text);
        if let Ok(bytes) = decode_base64(&text) {
            prop_assert_eq!(encode_base64(&bytes), text);
        }
    }

    #[test]
    fn what_is_encrypted_decrypts(
        id: u32,
        algorithm in algorithm(),
        material: [u8; 32],
        plaintext in vec(any::<u8>(), 0..500),
        aad in vec(any::<u8>(), 0..60),
    ) {
        let key = data_key(id, algorithm, &material);
        let bytes = key.encrypt(&plaintext, &aad).unwrap();
        prop_assert_eq!(bytes.len(), PREFIX_LEN + body_len(algorithm, plaintext.len()));

        let ciphertext = Ciphertext::parse(&bytes).unwrap();
        prop_assert_eq!(ciphertext.key_id(), key.id());
        prop_assert_eq!(&*key.decrypt(&ciphertext, &aad).unwrap(), &plaintext);

        let text = encode_base64(&bytes);
        prop_assert!(text_prefixes(key.id()).iter().any(|prefix| text.starts_with(prefix)));
        prop_assert_eq!(key_id_of_text_prefix(&text), Some(key.id()));
        prop_assert_eq!(decode_base64(&text), Ok(bytes));
    }

    #[test]
    fn any_flipped_bit_fails(
        id: u32,
        algorithm in algorithm(),
        material: [u8; 32],
        plaintext in vec(any::<u8>(), 0..20),
        aad in vec(any::<u8>(), 1..20),
    ) {
        let key = data_key(id, algorithm, &material);
        let bytes = key.encrypt(&plaintext, &aad).unwrap();
        for changed in with_each_bit_flipped(&bytes) {
            prop_assert!(!decrypts(&key, &changed, &aad));
        }
        for changed in with_each_bit_flipped(&aad) {
            prop_assert!(!decrypts(&key, &bytes, &changed));
        }
        for changed in with_each_bit_flipped(&material) {
            prop_assert!(!decrypts(&data_key(id, algorithm, &changed), &bytes, &aad));
        }
    }

    #[test]
    fn cut_or_extended_fails(
        algorithm in algorithm(),
        plaintext in vec(any::<u8>(), 0..20),
        extra: u8,
    ) {
        let key = data_key(7, algorithm, &[7; 32]);
        let bytes = key.encrypt(&plaintext, b"place").unwrap();
        for len in 0..bytes.len() {
            prop_assert!(!decrypts(&key, &bytes[..len], b"place"));
        }
        prop_assert!(!decrypts(&key, &[bytes.as_slice(), &[extra]].concat(), b"place"));
    }

    #[test]
    fn one_algorithm_reads_nothing_of_another(
        material: [u8; 32],
        plaintext in vec(any::<u8>(), 0..60),
    ) {
        for (one, other) in [(0, 1), (1, 0)] {
            let key = |at: usize| data_key(7, Algorithm::ALL[at], &material);
            let bytes = key(one).encrypt(&plaintext, b"place").unwrap();
            prop_assert!(!decrypts(&key(other), &bytes, b"place"));
        }
    }

    /// Where one part ends and the next begins is authenticated as well.
    #[test]
    fn bytes_do_not_move_between_associated_data_and_value(
        algorithm in algorithm(),
        plaintext in vec(any::<u8>(), 0..60),
        aad in vec(any::<u8>(), 1..40),
        at in any::<prop::sample::Index>(),
    ) {
        let key = data_key(7, algorithm, &[7; 32]);
        let bytes = key.encrypt(&plaintext, &aad).unwrap();
        let (kept, moved) = aad.split_at(at.index(aad.len()));
        let body = [moved, &bytes[PREFIX_LEN..]].concat();
        let shifted = [prefix(key.id()).as_slice(), &body].concat();
        prop_assert!(!decrypts(&key, &shifted, kept));
    }

    #[test]
    fn associated_data_is_injective((one, other) in places_of_the_same_types()) {
        let aad = |(column_id, parts): &Place| associated_data(column_id, parts);
        prop_assert_eq!(one == other, aad(&one) == aad(&other), "{:?} {:?}", one, other);
    }

    #[test]
    fn another_number_of_parts_is_another_place(
        column_ids in [TRICKY, TRICKY],
        parts in vec(bind_value(), 0..4),
        more in vec(bind_value(), 1..3),
    ) {
        let longer = [parts.as_slice(), &more].concat();
        let [one, other] = &column_ids;
        prop_assert_ne!(associated_data(one, &parts), associated_data(other, &longer));
    }
}

/// A column id and the values a row is bound to.
type Place = (String, Vec<BindValue>);

fn places_of_the_same_types() -> impl Strategy<Value = (Place, Place)> {
    let pairs = vec(pair_of_the_same_type(), 0..4);
    (TRICKY, TRICKY, pairs).prop_map(|(one, other, pairs)| {
        let (ones, others) = pairs.into_iter().unzip();
        ((one, ones), (other, others))
    })
}

fn pair_of_the_same_type() -> impl Strategy<Value = (BindValue, BindValue)> {
    let integer = || prop_oneof![-12..12_i64, any::<i64>()].prop_map(BindValue::Integer);
    let uuid = || any::<[u8; 16]>().prop_map(BindValue::Uuid);
    let text = || TRICKY.prop_map(BindValue::Text);
    let bytes = || vec(any::<u8>(), 0..3).prop_map(BindValue::Bytes);
    prop_oneof![
        (integer(), integer()),
        (uuid(), uuid()),
        (text(), text()),
        (bytes(), bytes()),
        bind_value().prop_map(|value| (value.clone(), value)),
    ]
}

fn bind_value() -> impl Strategy<Value = BindValue> {
    prop_oneof![
        any::<i64>().prop_map(BindValue::Integer),
        any::<[u8; 16]>().prop_map(BindValue::Uuid),
        TRICKY.prop_map(BindValue::Text),
        vec(any::<u8>(), 0..3).prop_map(BindValue::Bytes),
    ]
}

fn data_key(id: u32, algorithm: Algorithm, material: &[u8]) -> DataKey {
    let material = KeyMaterial::from_slice(material).unwrap();
    DataKey::new(KeyId::new(id), algorithm, &material).unwrap()
}

/// Nonce, ciphertext and tag.
fn body_len(algorithm: Algorithm, plaintext: usize) -> usize {
    match algorithm {
        Algorithm::Aes256Gcm => 12 + plaintext + 16,
        // Padding fills the last block, or is one of its own.
        Algorithm::Aes256Cbc => 16 + (plaintext / 16 + 1) * 16 + 32,
        Algorithm::Ed25519 => unreachable!("it encrypts nothing"),
    }
}

fn decrypts(key: &DataKey, bytes: &[u8], aad: &[u8]) -> bool {
    Ciphertext::parse(bytes).is_ok_and(|ciphertext| key.decrypt(&ciphertext, aad).is_ok())
}

fn with_each_bit_flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}
