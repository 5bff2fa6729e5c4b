//! Pieces of SQL: quoted names, and what makes a value settled.

use rekey_domain::{KeyId, TextEncoding};

use crate::{start::START_CHARACTERS, value::format_byte};

/// A name as an identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A condition, never NULL: the value of `column` is ciphertext by its form, under one of `keys`. The first bytes are
/// compared first, as checking the form of a text reads all of it.
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
    let (ours, length) = (is_ciphertext(column, encoding), prefix_length(encoding));
    let list = prefixes.join(", ");
    format!("(substr({column}, 1, {length}) IN ({list}) AND {ours})")
}

/// A condition, never NULL: there is a value that is not empty, and it is not settled.
pub(super) fn moves(column: &str, encoding: TextEncoding, keys: &[KeyId]) -> String {
    let (empty, settled) = (is_empty(column), settled(column, encoding, keys));
    format!("({column} IS NOT NULL AND NOT {empty} AND NOT {settled})")
}

/// A condition: no byte and no character, of either storage class, or a text of nothing but blanks. A text that begins
/// with NUL has some.
pub(super) fn is_empty(value: &str) -> String {
    let blanks = "' ' || char(9, 10, 13)";
    format!(
        "CASE WHEN typeof({value}) = 'text' AND length({value}) <= {MOST_BLANKS} \
         THEN trim({value}, {blanks}) COLLATE BINARY = '' ELSE {value} COLLATE BINARY IN ('', x'') END"
    )
}

/// As a column `char(n)` fills up, and people type.
const MOST_BLANKS: u32 = 255;

/// A condition, never NULL: the value has the form of a ciphertext of ours, under whatever key. It is
/// what [`rekey_envelope::Ciphertext`] and [`rekey_envelope::decode_base64`] accept, as far as the
/// first bytes and the length go, and whole base64 where it is text.
pub(super) fn is_ciphertext(value: &str, encoding: TextEncoding) -> String {
    let (class, least) = (storage_class(encoding), rekey_envelope::MIN_LEN);
    let form = match encoding {
        TextEncoding::Binary => {
            let first = format!("x'{:02x}'", format_byte());
            format!("length({value}) >= {least} AND substr({value}, 1, 1) = {first}")
        }
        TextEncoding::Base64 => base64(value, (least * 8).div_ceil(6)),
    };
    // A value without a first byte gives NULL, and so would the condition.
    format!("ifnull(typeof({value}) = '{class}' AND {form}, 0)")
}

/// A condition, never NULL: the first bytes of the value are those of a ciphertext.
pub(super) fn begins_as_ciphertext(value: &str, encoding: TextEncoding) -> String {
    let class = storage_class(encoding);
    let first = match encoding {
        TextEncoding::Binary => format!("x'{:02x}'", format_byte()),
        TextEncoding::Base64 => {
            let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
            format!("'{}'", &prefix[..1])
        }
    };
    format!("ifnull(typeof({value}) = '{class}' AND substr({value}, 1, 1) = {first}, 0)")
}

/// Whole base64 of at least so many digits; the last one before padding leaves no stray bits.
///
/// Most of SQLite's functions see nothing behind a NUL, so a text with one is refused. None of these functions copies
/// the value, as SQLite would keep the copy until the statement ends.
fn base64(value: &str, least: usize) -> String {
    let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
    let (first, whole) = (&prefix[..1], format!("length({value})"));
    format!(
        "{whole} % 4 = 0 AND instr({value}, char(0)) = 0 \
         AND substr({value}, 1, 1) COLLATE BINARY = '{first}' \
         AND {value} NOT GLOB '*[^A-Za-z0-9+/=]*' \
         AND CASE instr({value}, '=') WHEN 0 THEN {whole} >= {least} \
         WHEN {whole} THEN {whole} > {least} AND substr({value}, -2) GLOB '[AEIMQUYcgkosw048]=' \
         WHEN {whole} - 1 THEN {whole} > {least} + 1 AND substr({value}, -3) GLOB '[AQgw]==' \
         ELSE 0 END"
    )
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

/// How many bytes or characters hold a ciphertext's prefix and nonce.
pub(super) fn start_length(encoding: TextEncoding) -> usize {
    match encoding {
        TextEncoding::Binary => rekey_envelope::FINGERPRINT_LEN,
        TextEncoding::Base64 => START_CHARACTERS,
    }
}

fn blob_prefix(key: KeyId) -> String {
    format!("x'{}'", hex::encode(rekey_envelope::prefix(key)))
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
    fn settled_compares_prefixes_and_looks_at_the_form() {
        let keys = [KeyId::new(0x0a1b_2c3d), KeyId::new(1)];
        assert_eq!(
            settled("t.c", TextEncoding::Binary, &keys),
            "(substr(t.c, 1, 5) IN (x'010a1b2c3d', x'0100000001') AND \
             ifnull(typeof(t.c) = 'blob' AND length(t.c) >= 33 AND substr(t.c, 1, 1) = x'01', 0))"
        );
        let text = settled("t.c", TextEncoding::Base64, &keys[..1]);
        assert!(text.contains("substr(t.c, 1, 7) IN ('AQobLD0'"), "{text}");
        assert_eq!(settled("t.c", TextEncoding::Binary, &[]), "0");
    }
}
