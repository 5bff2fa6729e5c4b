//! What identifies a value that a pass had to leave: its part, its place and, if it is ciphertext, its start.

use std::fmt;

use rekey_domain::{KeyId, PartId, TextEncoding};
use rekey_envelope::{Ciphertext, decode_base64};
use sha2::{Digest, Sha256};

use crate::{ColumnUpdate, RowKey, StoredValue, start::Start, value::Seen};

/// In place of the hash of bytes that cannot be read.
const UNREADABLE: &str = "unreadable";

/// A value's identity within its column and a pass. Shows neither the value nor its row's key: only ciphertext is
/// hashed, as a hash of plaintext could be guessed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(String);

impl ValueId {
    /// The identity of a value that was read.
    pub fn of(part: &PartId, key: RowKey, value: &StoredValue, encoding: TextEncoding) -> Self {
        match value {
            StoredValue::Unreadable(damage) => Self::seen(part, key, &damage.seen),
            value => Self::new(part, key, start(value, encoding).as_ref()),
        }
    }

    /// The identity of a value of which only this was seen. If nothing could be read, a word stands in place of the
    /// hash, so that the value differs from all readable ones: if it becomes readable under an old key, it is a
    /// straggler. Another unreadable value in the same place counts as the same, as nobody could move either.
    pub(crate) fn seen(part: &PartId, key: RowKey, seen: &Seen) -> Self {
        match seen {
            Seen::Start(start) => Self::new(part, key, Some(start)),
            Seen::NoCiphertext => Self::new(part, key, None),
            Seen::Nothing => Self(format!("{part} {key} {UNREADABLE}")),
        }
    }

    /// The identity of a ciphertext that an update was to replace, and the key it names.
    pub fn of_replaced(part: &PartId, key: RowKey, column: &ColumnUpdate) -> (Self, Option<KeyId>) {
        let start = match &column.old {
            StoredValue::Bytes(start) => Start::of_bytes(start),
            StoredValue::Text(text) => Start::of_text(text),
            StoredValue::Other | StoredValue::Unreadable(_) => None,
        };
        let found = start.as_ref().map(Start::key);
        (Self::new(part, key, start.as_ref()), found)
    }

    /// By the start of a ciphertext; None: it is none.
    pub(crate) fn new(part: &PartId, key: RowKey, start: Option<&Start>) -> Self {
        let mut text = format!("{part} {key}");
        if let Some(start) = start {
            text.push(' ');
            text.push_str(&hex::encode(Sha256::digest(start.0)));
        }
        Self(text)
    }

    /// The hash of the ciphertext's start, the same in every place; None if the value is no ciphertext.
    pub fn start(&self) -> Option<&str> {
        let (_, last) = self.0.rsplit_once(' ')?;
        (last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(last)
    }

    /// The hash of all of a ciphertext, which nobody puts something else in the place of; none: it is none.
    pub fn whole(value: &StoredValue, encoding: TextEncoding) -> Option<String> {
        let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        match (value, encoding) {
            (StoredValue::Bytes(bytes), TextEncoding::Binary) => Some(hash(bytes)),
            (StoredValue::Text(text), TextEncoding::Base64) => {
                decode_base64(text).ok().map(|bytes| hash(&bytes))
            }
            _ => None,
        }
    }

    /// As it is stored: part, place, and a hash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ValueId {
    /// What was stored.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn start(value: &StoredValue, encoding: TextEncoding) -> Option<Start> {
    match (value, encoding) {
        (StoredValue::Bytes(bytes), TextEncoding::Binary) => of_ciphertext(bytes),
        (StoredValue::Text(text), TextEncoding::Base64) => {
            of_ciphertext(&decode_base64(text).ok()?)
        }
        _ => None,
    }
}

fn of_ciphertext(bytes: &[u8]) -> Option<Start> {
    Start::of_bytes(Ciphertext::parse(bytes).ok()?.fingerprint())
}

#[cfg(test)]
mod tests {
    use rekey_envelope::{encode_base64, prefix};

    use super::*;
    use crate::value::Damage;

    fn part() -> PartId {
        let (name, form) = ("p".to_owned(), "1".to_owned());
        PartId { name, form }
    }

    fn ciphertext() -> Vec<u8> {
        [&prefix(KeyId::new(7))[..], &[9; 40]].concat()
    }

    #[test]
    fn a_start_in_base64_is_the_same_start() {
        let text = encode_base64(&ciphertext());
        let (one, other) = (
            Start::of_bytes(&ciphertext()).unwrap(),
            Start::of_text(&text).unwrap(),
        );
        assert!(one.0 == other.0 && one.key() == KeyId::new(7));
        assert!(Start::of_bytes(&[1; 20]).is_none() && Start::of_text(&text[..27]).is_none());
    }

    #[test]
    fn another_place_or_nonce_is_another_value() {
        let id = |key, bytes: Vec<u8>| {
            ValueId::of(
                &part(),
                key,
                &StoredValue::Bytes(bytes),
                TextEncoding::Binary,
            )
        };
        let one = id(RowKey::RowId(1), ciphertext());
        let mut other_nonce = ciphertext();
        other_nonce[20] ^= 1;
        assert_ne!(one, id(RowKey::RowId(2), ciphertext()));
        assert_ne!(one, id(RowKey::RowId(1), other_nonce));
        let mut other_text = ciphertext();
        other_text[21] ^= 1;
        assert_eq!(
            one,
            id(RowKey::RowId(1), other_text),
            "the nonce identifies it"
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_value_that_can() {
        let id = |value| ValueId::of(&part(), RowKey::RowId(1), &value, TextEncoding::Binary);
        let unreadable = |seen| {
            let code = "SQLSTATE XX001".to_owned();
            id(StoredValue::Unreadable(Damage { code, seen }))
        };
        let readable = [ciphertext(), b"unreadable".to_vec(), Vec::new()];
        let readable = readable.map(|bytes| id(StoredValue::Bytes(bytes)));
        assert!(!readable.contains(&unreadable(Seen::Nothing)));
        let start = Start::of_bytes(&ciphertext()).unwrap();
        assert_eq!(
            unreadable(Seen::Start(start)),
            readable[0],
            "its start tells"
        );
        assert_eq!(unreadable(Seen::NoCiphertext), readable[1]);
    }

    #[test]
    fn nothing_of_plaintext_is_in_it() {
        let ssn = StoredValue::Text("123-45-6789".to_owned());
        let id = ValueId::of(&part(), RowKey::RowId(1), &ssn, TextEncoding::Base64);
        assert_eq!(id.as_str(), "p rowid 1");
        let copied = StoredValue::Text(format!("{} 123", encode_base64(&ciphertext())));
        let other = ValueId::of(&part(), RowKey::RowId(1), &copied, TextEncoding::Base64);
        assert_eq!(other.as_str(), "p rowid 1");
    }
}
