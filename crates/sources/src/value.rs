//! A value as the database holds it, and what of it a compare-and-swap compares.

use std::fmt;

use rekey_domain::{KeyId, TextEncoding};

use crate::start::Start;

/// A value that is not NULL, by its storage class. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredValue {
    /// Bytes: BLOB.
    Bytes(Vec<u8>),
    /// Text, UTF-8.
    Text(String),
    /// What can be no ciphertext: a number, or text that is not UTF-8.
    Other,
    /// Its database fails to read it.
    Unreadable(Damage),
}

/// What is known of a value that cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Damage {
    /// What the database says, as a code: `SQLSTATE XX001`.
    pub code: String,
    pub(crate) seen: Seen,
}

/// What a census sees of a value that cannot be read: it looks at no more than it needs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// As much as makes it ciphertext, and tells which.
    Start(Start),
    /// That it is no ciphertext.
    NoCiphertext,
    /// Nothing.
    Nothing,
}

impl Damage {
    /// The key that its first bytes name, where those can be read.
    pub fn key(&self) -> Option<KeyId> {
        match &self.seen {
            Seen::Start(start) => Some(start.key()),
            Seen::NoCiphertext | Seen::Nothing => None,
        }
    }
}

/// What must still be there for a value to be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fingerprint<'a> {
    /// The value's first bytes: prefix and nonce are in them, which no other ciphertext shares.
    Start(&'a [u8]),
    /// All bytes.
    Bytes(&'a [u8]),
    /// All text.
    Text(&'a str),
}

impl StoredValue {
    /// How many bytes the value takes; 0 for what is neither bytes nor text.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
            Self::Other | Self::Unreadable(_) => 0,
        }
    }

    /// Whether a column of this encoding holds its ciphertext in this storage class.
    pub fn fits(&self, encoding: TextEncoding) -> bool {
        matches!(
            (self, encoding),
            (Self::Bytes(_), TextEncoding::Binary) | (Self::Text(_), TextEncoding::Base64)
        )
    }

    /// As much of the value as a compare-and-swap looks at: of a wide one, little.
    #[must_use]
    pub fn to_compare(self, encoding: TextEncoding) -> Self {
        match self.fingerprint(encoding) {
            Some(Fingerprint::Start(start)) => Self::Bytes(start.to_vec()),
            _ => self,
        }
    }

    /// What identifies this value in a compare-and-swap; None if nothing does.
    pub(crate) fn fingerprint(&self, encoding: TextEncoding) -> Option<Fingerprint<'_>> {
        match self {
            Self::Bytes(bytes) if encoding == TextEncoding::Binary => Some(binary(bytes)),
            Self::Bytes(bytes) => Some(Fingerprint::Bytes(bytes)),
            Self::Text(text) => Some(Fingerprint::Text(text)),
            Self::Other | Self::Unreadable(_) => None,
        }
    }
}

/// Ciphertext is identified by prefix and nonce. Other bytes have no nonce, and two may start alike, so all of them are
/// compared.
fn binary(bytes: &[u8]) -> Fingerprint<'_> {
    match bytes.get(..rekey_envelope::FINGERPRINT_LEN) {
        Some(start) if bytes.first() == Some(&format_byte()) => Fingerprint::Start(start),
        _ => Fingerprint::Bytes(bytes),
    }
}

/// The byte that every ciphertext of our format starts with.
pub(crate) fn format_byte() -> u8 {
    rekey_envelope::prefix(KeyId::new(0))[0]
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Other => f.write_str("Other"),
            Self::Unreadable(damage) => write!(f, "Unreadable({})", damage.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let shown = format!(
            "{:?} {:?}",
            StoredValue::Text("123-45-6789".to_owned()),
            StoredValue::Bytes(vec![65; 3])
        );
        assert_eq!(shown, "Text(11 bytes) Bytes(3 bytes)");
    }

    #[test]
    fn only_ciphertext_is_known_by_its_start() {
        let start = |bytes: &[u8]| matches!(binary(bytes), Fingerprint::Start(s) if s.len() == 21);
        assert!(start(&[1; 40]));
        assert!(start(&[1; 21]));
        assert!(!start(&[1; 20]));
        assert!(!start(b"Patient is allergic to penicillin"));
        assert!(!start(b""));
    }

    #[test]
    fn what_is_kept_to_compare_compares_the_same() {
        for bytes in [
            &[1; 40][..],
            &[1; 21],
            &[1; 20],
            b"Patient is allergic to penicillin",
            b"",
        ] {
            for encoding in [TextEncoding::Binary, TextEncoding::Base64] {
                let whole = StoredValue::Bytes(bytes.to_vec());
                let kept = whole.clone().to_compare(encoding);
                assert!(kept.fingerprint(encoding) == whole.fingerprint(encoding));
            }
        }
    }
}
