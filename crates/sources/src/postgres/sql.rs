//! Pieces of SQL about values: what makes one settled, which key it names, what identifies it.

use rekey_domain::{KeyId, Range, TextEncoding};

use crate::value::format_byte;

/// A condition, never NULL where the value is not: it is ciphertext under one of `keys`.
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
    format!("{} IN ({})", start(value, encoding), prefixes.join(", "))
}

/// What a census groups a value by: NULL for NULL, '' for no ciphertext, else the key's hex digits
/// or first characters. Nothing is decoded here, as one bad value would fail the statement; and a
/// column full of plaintext is one group.
pub(super) fn group(value: &str, encoding: TextEncoding) -> String {
    let start = start(value, encoding);
    let ours = match encoding {
        TextEncoding::Binary => format!(
            "octet_length({value}) >= {} AND substr({value}, 1, 1) = {}",
            rekey_envelope::PREFIX_LEN,
            bytes(&[format_byte()])
        ),
        TextEncoding::Base64 => {
            let [prefix, ..] = rekey_envelope::text_prefixes(KeyId::new(0));
            format!("left({value}, 1) COLLATE \"C\" = '{}'", &prefix[..1])
        }
    };
    let shown = match encoding {
        TextEncoding::Binary => format!("encode({start}, 'hex')"),
        TextEncoding::Base64 => start,
    };
    format!("CASE WHEN {value} IS NULL THEN NULL WHEN {ours} THEN {shown} ELSE '' END")
}

/// The rows of a range of blocks; `expressions` speak of the row as `t`.
pub(super) fn rows_in(expressions: &str, only: &str, range: Range) -> String {
    let (first, behind) = (range.first, range.last + 1);
    format!(
        "SELECT {expressions} FROM {only} AS t \
         WHERE t.ctid >= '({first},0)'::tid AND t.ctid < '({behind},0)'::tid"
    )
}

/// The key that a group stands for.
pub(super) fn key_of_group(group: &str, encoding: TextEncoding) -> Option<KeyId> {
    match encoding {
        TextEncoding::Binary => group.get(2..).and_then(|digits| digits.parse().ok()),
        TextEncoding::Base64 => rekey_envelope::key_id_of_text_prefix(group),
    }
}

/// The bytes or characters that tell a value's key.
fn start(value: &str, encoding: TextEncoding) -> String {
    match encoding {
        TextEncoding::Binary => format!("substr({value}, 1, {})", rekey_envelope::PREFIX_LEN),
        TextEncoding::Base64 => {
            let length = rekey_envelope::text_prefixes(KeyId::new(0))[0].len();
            format!("left({value}, {length}) COLLATE \"C\"")
        }
    }
}

/// Bytes as a literal.
fn bytes(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{digits}'::bytea")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_compares_prefixes() {
        let keys = [KeyId::new(0x0a1b_2c3d), KeyId::new(1)];
        assert_eq!(
            settled("c", TextEncoding::Binary, &keys),
            r"substr(c, 1, 5) IN ('\x010a1b2c3d'::bytea, '\x0100000001'::bytea)"
        );
        let text = settled("c", TextEncoding::Base64, &keys[..1]);
        assert!(
            text.starts_with(r#"left(c, 7) COLLATE "C" IN ('AQobLD0'"#),
            "{text}"
        );
        assert_eq!(settled("c", TextEncoding::Binary, &[]), "false");
    }

    #[test]
    fn a_group_names_its_key() {
        let key = Some(KeyId::new(0x0a1b_2c3d));
        assert_eq!(key_of_group("010a1b2c3d", TextEncoding::Binary), key);
        assert_eq!(key_of_group("AQobLD0", TextEncoding::Base64), key);
        for encoding in [TextEncoding::Binary, TextEncoding::Base64] {
            assert_eq!(key_of_group("", encoding), None);
        }
    }
}
