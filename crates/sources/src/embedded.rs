//! Ciphertext among other text: in JSON, in arrays, spelled in hex. Where it begins tells its key.

use std::collections::BTreeSet;

use rekey_domain::KeyId;
use rekey_envelope::{MIN_LEN, PREFIX_LEN};

use crate::Spelling;

/// How many bytes of a value are searched.
pub(crate) const LOOKED_THROUGH: usize = 1_000_000;
/// The shortest ciphertext, spelled out: in base64 without padding, and in hex.
const LEAST_BASE64: usize = MIN_LEN / 3 * 4;
const LEAST_HEX: usize = MIN_LEN * 2;
/// Characters that tell a key.
const PREFIX_BASE64: usize = 7;
const PREFIX_HEX: usize = PREFIX_LEN * 2;

/// Every key that is named by something spelled as a ciphertext in the text.
pub(crate) fn find(text: &[u8]) -> BTreeSet<(Spelling, KeyId)> {
    let text = &text[..text.len().min(LOOKED_THROUGH)];
    let mut found = BTreeSet::new();
    for run in text.split(|byte| !byte.is_ascii_hexdigit()) {
        if run.len() >= LEAST_HEX {
            found.extend(key(Spelling::Hex, &run[..PREFIX_HEX]).map(|key| (Spelling::Hex, key)));
        }
    }
    let mut run = Vec::new();
    let mut rest = text.iter().copied().peekable();
    loop {
        let byte = rest.next();
        match byte {
            Some(byte) if is_base64(byte) => {
                run.push(byte);
                continue;
            }
            // JSON may write a slash as `\/`, and a line's end as `\n`.
            Some(b'\\') if rest.peek() == Some(&b'/') => continue,
            Some(b'\\') => drop(rest.next_if(|next| matches!(next, b'n' | b'r' | b't'))),
            _ => {}
        }
        if run.len() >= LEAST_BASE64 {
            let start = &run[..PREFIX_BASE64];
            found.extend(key(Spelling::Base64, start).map(|key| (Spelling::Base64, key)));
        }
        run.clear();
        if byte.is_none() {
            return found;
        }
    }
}

/// Both alphabets of base64.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The key that these first characters name.
pub(crate) fn key(spelling: Spelling, start: &[u8]) -> Option<KeyId> {
    let start = std::str::from_utf8(start).ok()?;
    match spelling {
        Spelling::Hex => start.strip_prefix("01")?.to_ascii_lowercase().parse().ok(),
        Spelling::Base64 => {
            let start = start.replace('\\', "").replace('-', "+").replace('_', "/");
            rekey_envelope::key_id_of_text_prefix(&start)
        }
    }
}

#[cfg(test)]
mod tests {
    use rekey_envelope::{encode_base64, prefix};

    use super::*;

    /// With a slash and a plus in what tells its key.
    const KEY: KeyId = KeyId::new(0x0fff_ffbe);

    fn ciphertext() -> Vec<u8> {
        [&prefix(KEY)[..], &[0xfb; 60]].concat()
    }

    #[test]
    fn ciphertext_is_found_in_whatever_is_around_it() {
        let (base64, hex) = (encode_base64(&ciphertext()), hex::encode(ciphertext()));
        let escaped = base64.replace('/', "\\/");
        let url = base64.replace('+', "-").replace('/', "_");
        for (text, spelling) in [
            (base64.clone(), Spelling::Base64),
            (format!("{{\"ssn\": \"{base64}\"}}"), Spelling::Base64),
            (format!("{{\"ssn\":\"{escaped}\"}}"), Spelling::Base64),
            (format!("{{none,{url}}}"), Spelling::Base64),
            (format!("a line\\n{base64}\\n"), Spelling::Base64),
            (hex.clone(), Spelling::Hex),
            (format!("\\x{hex}"), Spelling::Hex),
            (format!("{{\"\\\\x{hex}\",NULL}}"), Spelling::Hex),
            (hex.to_uppercase(), Spelling::Hex),
        ] {
            let found = find(text.as_bytes());
            assert_eq!(Vec::from_iter(found), [(spelling, KEY)], "{text}");
        }
    }

    #[test]
    fn what_is_shorter_or_in_the_middle_of_something_is_none() {
        let (base64, hex) = (encode_base64(&ciphertext()), hex::encode(ciphertext()));
        for text in [
            base64[..LEAST_BASE64 - 1].to_owned(),
            hex[..LEAST_HEX - 1].to_owned(),
            format!("A{base64}"),
            format!("f{hex}"),
            String::new(),
        ] {
            assert!(find(text.as_bytes()).is_empty(), "{text}");
        }
    }
}
