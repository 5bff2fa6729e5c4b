//! Pieces of SQL about values: what makes one settled, which key it names, what identifies it.

use rekey_domain::{Found, KeyId, Range, TextEncoding};

use super::tuple::TupleId;
use crate::{CountedBy, start::START_CHARACTERS, value::format_byte};

/// A condition that the value is ciphertext by its form, under one of `keys`. NULL only for a NULL value.
///
/// Key ids are written out, not bound: they are hex and base64 of our own making.
pub(super) fn settled(value: &str, encoding: TextEncoding, keys: &[KeyId]) -> String {
    if keys.is_empty() {
        return "false".to_owned();
    }
    let prefixes: Vec<String> = match encoding {
        TextEncoding::Binary => keys
            .iter()
            .map(|key| bytes(&rekey_envelope::prefix(*key)))
            .collect(),
        TextEncoding::Base64 => {
            let texts = keys
                .iter()
                .flat_map(|key| rekey_envelope::text_prefixes(*key));
            texts.map(|text| format!("'{text}'")).collect()
        }
    };
    let named = format!("{} IN ({})", prefix(value, encoding), prefixes.join(", "));
    format!("({named} AND {})", well_formed(value, encoding))
}

/// A condition, never NULL: there is a value that is not empty, and it is not settled.
pub(super) fn moves(value: &str, encoding: TextEncoding, keys: &[KeyId]) -> String {
    let there = format!("coalesce(NOT {}, false)", is_empty(value, encoding));
    format!("({there} AND NOT {})", settled(value, encoding, keys))
}

/// No byte, or a text of nothing but blanks; NULL for NULL. The length is known without fetching the value.
fn is_empty(value: &str, encoding: TextEncoding) -> String {
    let length = format!("pg_catalog.octet_length({value})");
    let none = format!("{length} OPERATOR(pg_catalog.=) 0");
    match encoding {
        TextEncoding::Binary => none,
        TextEncoding::Base64 => {
            let trimmed = format!("pg_catalog.btrim({value}::pg_catalog.text, E' \\t\\r\\n')");
            format!(
                "CASE WHEN {length} OPERATOR(pg_catalog.<=) {MOST_BLANKS} \
                 THEN pg_catalog.octet_length({trimmed}) OPERATOR(pg_catalog.=) 0 ELSE {none} END"
            )
        }
    }
}

/// As a column `char(n)` fills up, and people type.
const MOST_BLANKS: u32 = 255;

/// What a census groups empty values by: no key's digits or characters.
const EMPTY: &str = "-";

/// What a census groups a value by: NULL for NULL, '' for no ciphertext, else the key's hex digits
/// or first characters. Nothing is decoded here, as one bad value would fail the statement; and a
/// column full of plaintext is one group.
pub(super) fn group(value: &str, encoding: TextEncoding, by: CountedBy) -> String {
    let ours = match by {
        CountedBy::Form | CountedBy::AnyForm => is_ciphertext(value, encoding),
        CountedBy::Start => begins_as_ciphertext(value, encoding),
    };
    let shown = match encoding {
        TextEncoding::Binary => format!("pg_catalog.encode({}, 'hex')", prefix(value, encoding)),
        TextEncoding::Base64 => prefix(value, encoding),
    };
    let other = match by {
        CountedBy::Form => "''".to_owned(),
        CountedBy::Start | CountedBy::AnyForm => written_otherwise(value, encoding),
    };
    let empty = is_empty(value, encoding);
    format!(
        "CASE WHEN {value} IS NULL THEN NULL WHEN {empty} THEN '{EMPTY}' WHEN {ours} THEN {shown} ELSE {other} END"
    )
}

/// The key's hex digits or first characters, if the value is ciphertext in base64 or hex with other characters around
/// it; '' for others. Reads bytes as text too.
fn written_otherwise(value: &str, encoding: TextEncoding) -> String {
    let text = match encoding {
        TextEncoding::Binary => {
            let start = first_bytes(value, LOOKED_AT);
            format!("pg_catalog.encode({start}, 'escape') COLLATE pg_catalog.\"C\"")
        }
        TextEncoding::Base64 => first_characters(value, LOOKED_AT),
    };
    let digits = (rekey_envelope::MIN_LEN - rekey_envelope::PREFIX_LEN) * 2;
    let hex = format!(
        "^[^A-Za-z0-9+/]*(?:0?[xX])?[^A-Za-z0-9+/]*(01[0-9A-Fa-f]{{8}})[0-9A-Fa-f]{{{digits}}}"
    );
    let characters = (rekey_envelope::MIN_LEN * 8).div_ceil(6) - 7;
    let base64 =
        format!("^[^A-Za-z0-9+/]*(A[Q-Za-f][A-Za-z0-9+/]{{5}})[A-Za-z0-9+/]{{{characters}}}");
    format!(
        "coalesce(pg_catalog.substring({text}, '{hex}'), pg_catalog.substring({text}, '{base64}'), '')"
    )
}

/// How much of a value is searched for other spellings: the shortest ciphertext in hex, and what may be around it.
const LOOKED_AT: usize = 160;

/// What the values of a group are.
pub(super) fn found(group: &str) -> Found {
    match group {
        EMPTY => Found::Empty,
        group => key_of_group(group).map_or(Found::NotCiphertext, Found::Key),
    }
}

/// The start of a ciphertext, through its nonce; empty for what has not the form of one.
pub(super) fn start_of_ciphertext(value: &str, encoding: TextEncoding) -> String {
    let ours = is_ciphertext(value, encoding);
    let start = match encoding {
        TextEncoding::Binary => first_bytes(value, rekey_envelope::FINGERPRINT_LEN),
        TextEncoding::Base64 => first_characters(value, START_CHARACTERS),
    };
    format!("CASE WHEN {ours} THEN {start} ELSE '' END")
}

/// Whether a value that is not NULL has the form of a ciphertext of ours, under whatever key.
pub(super) fn is_ciphertext(value: &str, encoding: TextEncoding) -> String {
    let begins = begins_as_ciphertext(value, encoding);
    format!("({begins} AND {})", well_formed(value, encoding))
}

/// Whether the first bytes of a value that is not NULL are those of a ciphertext, and name a key.
fn begins_as_ciphertext(value: &str, encoding: TextEncoding) -> String {
    match encoding {
        TextEncoding::Binary => {
            let (first, least) = (first_bytes(value, 1), rekey_envelope::PREFIX_LEN);
            format!(
                "pg_catalog.octet_length({value}) OPERATOR(pg_catalog.>=) {least} \
                 AND {first} OPERATOR(pg_catalog.=) {}",
                bytes(&[format_byte()])
            )
        }
        TextEncoding::Base64 => {
            let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
            let first = first_characters(value, 1);
            format!("{first} OPERATOR(pg_catalog.=) '{}'", &prefix[..1])
        }
    }
}

/// Whether a value that is not NULL is as long as a ciphertext at least, and whole base64 where it is
/// text: what [`rekey_envelope::Ciphertext`] and [`rekey_envelope::decode_base64`] accept behind the
/// first bytes.
fn well_formed(value: &str, encoding: TextEncoding) -> String {
    let least = rekey_envelope::MIN_LEN;
    match encoding {
        TextEncoding::Binary => {
            format!("pg_catalog.octet_length({value}) OPERATOR(pg_catalog.>=) {least}")
        }
        TextEncoding::Base64 => {
            // Rounded up to whole groups of four: a longer text is longer than this even without its padding.
            let least = (least * 8).div_ceil(24) * 4;
            let (text, length) = (text(value), format!("pg_catalog.octet_length({value})"));
            format!(
                "{length} OPERATOR(pg_catalog.>=) {least} \
                 AND {length} OPERATOR(pg_catalog.%) 4 OPERATOR(pg_catalog.=) 0 \
                 AND ({length} OPERATOR(pg_catalog.>) {least} \
                     OR pg_catalog.right({text}, 1) OPERATOR(pg_catalog.<>) '=') \
                 AND ({length} OPERATOR(pg_catalog.>) {LOOKED_THROUGH} \
                     OR {text} OPERATOR(pg_catalog.~) '{WHOLE_BASE64}')"
            )
        }
    }
}

/// Longer texts are not searched to the end: PostgreSQL takes four bytes a character for that, and fails at 1 GiB.
const LOOKED_THROUGH: u32 = 200_000_000;
/// Of a length that four divides. The last character before padding leaves no stray bits.
const WHOLE_BASE64: &str = "^[A-Za-z0-9+/]+([AQgw]==|[AEIMQUYcgkosw048]=)?$";

/// A value as plain text, whatever text type its column has, so that only PostgreSQL's own operators are used.
fn text(value: &str) -> String {
    format!("{value}::pg_catalog.text COLLATE pg_catalog.\"C\"")
}

fn first_bytes(value: &str, count: usize) -> String {
    format!("pg_catalog.substr({value}::pg_catalog.bytea, 1, {count})")
}

fn first_characters(value: &str, count: usize) -> String {
    format!("pg_catalog.left({value}::pg_catalog.text, {count}) COLLATE pg_catalog.\"C\"")
}

/// The rows of a range of blocks; `expressions` speak of the row as `t`.
pub(super) fn rows_in(expressions: &str, only: &str, range: Range) -> String {
    rows_where(expressions, only, &of_blocks(range))
}

/// The rows that a condition is true of, which speaks of them as `t` too.
pub(super) fn rows_where(expressions: &str, only: &str, which: &str) -> String {
    format!("SELECT {expressions} FROM {only} AS t WHERE {which}")
}

/// A condition: the row lies in one of these blocks.
pub(super) fn of_blocks(range: Range) -> String {
    let (first, behind) = (range.first, range.last + 1);
    format!(
        "t.ctid OPERATOR(pg_catalog.>=) '({first},0)'::pg_catalog.tid \
         AND t.ctid OPERATOR(pg_catalog.<) '({behind},0)'::pg_catalog.tid"
    )
}

/// A condition: the row lies between the first of these and the last, both included.
pub(super) fn of_rows(rows: &[TupleId]) -> String {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return "false".to_owned();
    };
    let (first, last) = (first.sql(), last.sql());
    format!("t.ctid OPERATOR(pg_catalog.>=) {first} AND t.ctid OPERATOR(pg_catalog.<=) {last}")
}

/// The key that a group stands for: its prefix in hex, or its first characters.
fn key_of_group(group: &str) -> Option<KeyId> {
    match group.strip_prefix("01") {
        Some(digits) => digits.parse().ok(),
        None => rekey_envelope::key_id_of_text_prefix(group),
    }
}

/// The bytes or characters that tell a value's key.
fn prefix(value: &str, encoding: TextEncoding) -> String {
    match encoding {
        TextEncoding::Binary => first_bytes(value, rekey_envelope::PREFIX_LEN),
        TextEncoding::Base64 => {
            let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
            first_characters(value, prefix.len())
        }
    }
}

/// Bytes as a literal.
fn bytes(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    format!("'\\x{digits}'::pg_catalog.bytea")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_compares_prefixes_and_looks_at_the_form() {
        let keys = [KeyId::new(0x0a1b_2c3d), KeyId::new(1)];
        assert_eq!(
            settled("c", TextEncoding::Binary, &keys),
            r"(pg_catalog.substr(c::pg_catalog.bytea, 1, 5) IN ('\x010a1b2c3d'::pg_catalog.bytea, '\x0100000001'::pg_catalog.bytea) AND pg_catalog.octet_length(c) OPERATOR(pg_catalog.>=) 33)"
        );
        let text = settled("c", TextEncoding::Base64, &keys[..1]);
        let start =
            r#"(pg_catalog.left(c::pg_catalog.text, 7) COLLATE pg_catalog."C" IN ('AQobLD0'"#;
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains(WHOLE_BASE64), "{text}");
        assert_eq!(settled("c", TextEncoding::Binary, &[]), "false");
    }

    #[test]
    fn a_group_names_its_key() {
        let key = Some(KeyId::new(0x0a1b_2c3d));
        assert_eq!(key_of_group("010a1b2c3d"), key);
        assert_eq!(key_of_group("010A1B2C3D"), key);
        assert_eq!(key_of_group("AQobLD0"), key);
        assert_eq!(key_of_group(""), None);
    }
}
