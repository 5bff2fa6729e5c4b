//! Associated data, which binds a value to its column and its row.

use std::fmt::Write;

use rekey_domain::BindValue;

/// The associated data of a value: `<column id>/<part>/…`, one part for each bind value.
///
/// `/` and `%` are percent-encoded, so that `/` only ever separates and no two lists of parts of
/// the same types share associated data.
pub fn associated_data(column_id: &str, parts: &[BindValue]) -> Vec<u8> {
    let mut aad = String::with_capacity(column_id.len() + 64);
    push_escaped(&mut aad, column_id);
    for part in parts {
        aad.push('/');
        push_part(&mut aad, part);
    }
    aad.into_bytes()
}

fn push_part(aad: &mut String, part: &BindValue) {
    match part {
        BindValue::Integer(value) => {
            write!(aad, "{value}").expect("writing to a String does not fail");
        }
        BindValue::Uuid(bytes) => push_uuid(aad, bytes),
        BindValue::Text(text) => push_escaped(aad, text),
        BindValue::Bytes(bytes) => aad.push_str(&hex::encode(bytes)),
    }
}

fn push_escaped(aad: &mut String, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b'/' | b'%')) {
        return aad.push_str(text);
    }
    for c in text.chars() {
        match c {
            '/' => aad.push_str("%2F"),
            '%' => aad.push_str("%25"),
            _ => aad.push(c),
        }
    }
}

/// Lower case with hyphens, 8-4-4-4-12 (RFC 9562).
fn push_uuid(aad: &mut String, bytes: &[u8; 16]) {
    let digits = hex::encode(bytes);
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    aad.push_str(&groups.join("-"));
}
