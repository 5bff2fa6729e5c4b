//! Ciphertext in text columns: base64, and what its first characters say of the key.

use base64::{Engine, engine::general_purpose::STANDARD};
use rekey_domain::KeyId;

use crate::{NotCiphertext, PREFIX_LEN, prefix};

/// Characters that the five bytes of a prefix reach into: 40 of 42 bits.
const TEXT_PREFIX_LEN: usize = 7;

/// Standard base64 with padding.
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base64, strictly: one text for one value, as values are compared as text.
///
/// # Errors
/// [`NotCiphertext::NotBase64`] for other alphabets, line breaks, missing padding, stray bits.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, NotCiphertext> {
    STANDARD.decode(text).map_err(|_| NotCiphertext::NotBase64)
}

/// The four texts that a base64 ciphertext under `id` may start with.
///
/// The seventh character ends in the nonce's first two bits, so a census in SQL looks for each.
pub fn text_prefixes(id: KeyId) -> [String; 4] {
    [0b00, 0b01, 0b10, 0b11].map(|nonce_bits: u8| {
        let mut bytes = [0; PREFIX_LEN + 1];
        bytes[..PREFIX_LEN].copy_from_slice(&prefix(id));
        bytes[PREFIX_LEN] = nonce_bits << 6;
        let mut text = encode_base64(&bytes);
        text.truncate(TEXT_PREFIX_LEN);
        text
    })
}

/// The key that a base64 ciphertext names in its first seven characters, if it is one.
pub fn key_id_of_text_prefix(text: &str) -> Option<KeyId> {
    // Seven characters are no whole base64 text; any eighth makes them one.
    let padded = format!("{}A", text.get(..TEXT_PREFIX_LEN)?);
    let bytes = decode_base64(&padded).ok()?;
    let &[_, ref id @ .., _] = bytes.as_array::<6>()?;
    let id = KeyId::new(u32::from_be_bytes(*id));
    bytes.starts_with(&prefix(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_text_decodes_to_a_value() {
        assert_eq!(decode_base64("AQID/+8="), Ok(vec![1, 2, 3, 0xff, 0xef]));
        for bad in [
            "AQID/+8",
            "AQID_-8=",
            "AQID/+9=",
            "AQID/+8=\n",
            " AQID/+8=",
            "A",
            "AQ=",
            "é",
        ] {
            assert_eq!(decode_base64(bad), Err(NotCiphertext::NotBase64), "{bad:?}");
        }
    }

    #[test]
    fn a_text_prefix_names_its_key() {
        let id = KeyId::new(0xfeed_beef);
        let prefixes = text_prefixes(id);
        for first_nonce_byte in 0..=255 {
            let bytes = [prefix(id).as_slice(), &[first_nonce_byte; 40]].concat();
            let text = encode_base64(&bytes);
            assert!(prefixes.contains(&text[..7].to_owned()));
            assert_eq!(key_id_of_text_prefix(&text), Some(id));
            assert_eq!(key_id_of_text_prefix(&text[..7]), Some(id));
        }
    }

    #[test]
    fn other_text_names_no_key() {
        for text in [
            "",
            "AQAAAA",
            "AAAAAAA",
            "AgAAAAA",
            "123-45-6789",
            "AQAA=AA",
            "Zoë Äöü ß",
        ] {
            assert_eq!(key_id_of_text_prefix(text), None, "{text:?}");
        }
    }
}
