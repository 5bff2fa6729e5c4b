//! Pieces of SQL: quoted names, and what makes a value settled.

use rekey_domain::{KeyId, TextEncoding};

/// A name as an identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A condition, never NULL: the value of `column` is ciphertext under one of `keys`.
///
/// Key ids are written out, not bound: they are hex and base64 of our own making, and a rotation
/// has one list of them.
pub(super) fn settled(column: &str, encoding: TextEncoding, keys: &[KeyId]) -> String {
    if keys.is_empty() {
        return "0".to_owned();
    }
    let prefixes = match encoding {
        TextEncoding::Binary => keys.iter().map(|key| blob_prefix(*key)).collect(),
        TextEncoding::Base64 => text_prefixes(keys),
    };
    let (class, length) = (storage_class(encoding), prefix_length(encoding));
    let list = prefixes.join(", ");
    // The start of an empty BLOB is NULL, and so would be the condition.
    format!("ifnull(typeof({column}) = '{class}' AND substr({column}, 1, {length}) IN ({list}), 0)")
}

/// The storage class of ciphertext, as `typeof` says it.
pub(super) fn storage_class(encoding: TextEncoding) -> &'static str {
    match encoding {
        TextEncoding::Binary => "blob",
        TextEncoding::Base64 => "text",
    }
}

/// How many bytes or characters of a value tell its key.
pub(super) fn prefix_length(encoding: TextEncoding) -> usize {
    match encoding {
        TextEncoding::Binary => rekey_envelope::PREFIX_LEN,
        TextEncoding::Base64 => rekey_envelope::text_prefixes(KeyId::new(0))[0].len(),
    }
}

fn blob_prefix(key: KeyId) -> String {
    let digits = rekey_envelope::prefix(key).map(|byte| format!("{byte:02x}"));
    format!("x'{}'", digits.concat())
}

fn text_prefixes(keys: &[KeyId]) -> Vec<String> {
    let prefixes = keys
        .iter()
        .flat_map(|key| rekey_envelope::text_prefixes(*key));
    prefixes.map(|prefix| format!("'{prefix}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quote("ssn"), r#""ssn""#);
        assert_eq!(quote(r#"a" = 1; --"#), r#""a"" = 1; --""#);
    }

    #[test]
    fn settled_compares_prefixes_by_storage_class() {
        let keys = [KeyId::new(0x0a1b_2c3d), KeyId::new(1)];
        assert_eq!(
            settled("t.c", TextEncoding::Binary, &keys),
            "ifnull(typeof(t.c) = 'blob' AND substr(t.c, 1, 5) IN (x'010a1b2c3d', x'0100000001'), 0)"
        );
        let text = settled("t.c", TextEncoding::Base64, &keys[..1]);
        let start = "ifnull(typeof(t.c) = 'text' AND substr(t.c, 1, 7) IN ('AQobLD0'";
        assert!(text.starts_with(start));
        assert_eq!(settled("t.c", TextEncoding::Binary, &[]), "0");
    }
}
