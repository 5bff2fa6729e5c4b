//! Ciphertext that is written in another way than its storage class says: base64 or hex as bytes, hex as text, bytes as
//! text. No rotation could open it, and it is lost with its key all the same.

use rekey_domain::{KeyId, TextEncoding};
use rekey_envelope::MIN_LEN;

/// Characters that tell a key in base64, and in hex with the version before it.
const BASE64: usize = 7;
const HEX: usize = 10;

/// What tells the key of such a value, as text for [`key`]; NULL for others. Of the storage class of `encoding` only.
pub(super) fn start(value: &str, encoding: TextEncoding) -> String {
    match encoding {
        TextEncoding::Binary => of_bytes(value),
        TextEncoding::Base64 => of_text(value),
    }
}

/// Text stored as bytes. The whole shortest ciphertext must match, so that a note that begins like one does not.
fn of_bytes(value: &str) -> String {
    let (base64, hex) = (least_base64(), MIN_LEN * 2);
    let start = |length: usize| format!("hex(substr({value}, 1, {length}))");
    let text = |length: usize| format!("CAST(substr({value}, 1, {length}) AS TEXT)");
    let (second, two) = (format!("hex(substr({value}, 2, 1))"), start(2));
    let (base64_start, hex_start) = (start(BASE64), start(HEX));
    let (base64_text, hex_text) = (text(base64 - 1), text(hex));
    format!(
        "CASE WHEN typeof({value}) <> 'blob' THEN NULL \
         WHEN length({value}) >= {base64} AND {two} GLOB '41*' \
             AND ({second} BETWEEN '51' AND '5A' OR {second} BETWEEN '61' AND '66') \
             AND {base64_text} NOT GLOB '*[^A-Za-z0-9+/]*' THEN {base64_start} \
         WHEN length({value}) >= {hex} AND {two} = '3031' AND {hex_text} NOT GLOB '*[^0-9A-Fa-f]*' \
             THEN {hex_start} END"
    )
}

/// Base64 or hex behind blanks and quotes, or bytes that somebody declared to be text.
fn of_text(value: &str) -> String {
    let (base64, hex) = (least_base64(), MIN_LEN * 2);
    let around = "' \"\\' || char(9, 10, 13, 39)";
    let text = format!("ltrim(substr({value}, 1, 160), {around})");
    let digits = format!(
        "CASE WHEN {text} GLOB '[xX]*' THEN ltrim(substr({text}, 2), char(39)) \
         WHEN {text} GLOB '0[xX]*' THEN substr({text}, 3) ELSE {text} END"
    );
    let whole = format!("substr({digits}, 1, {hex})");
    let bytes = format!("CAST({value} AS BLOB)");
    let prefix = rekey_envelope::PREFIX_LEN;
    format!(
        "CASE WHEN typeof({value}) <> 'text' THEN NULL \
         WHEN {text} GLOB 'A[Q-Za-f]*' AND length({text}) >= {base64} \
             AND substr({text}, 1, {base64} - 1) NOT GLOB '*[^A-Za-z0-9+/]*' THEN substr({text}, 1, {BASE64}) \
         WHEN {whole} GLOB '01*' AND length({whole}) = {hex} AND {whole} NOT GLOB '*[^0-9A-Fa-f]*' \
             THEN substr({whole}, 1, {HEX}) \
         WHEN substr({value}, 1, 1) = char(1) AND length({bytes}) >= {MIN_LEN} \
             THEN hex(substr({bytes}, 1, {prefix})) END"
    )
}

fn least_base64() -> usize {
    (MIN_LEN * 8).div_ceil(6)
}

/// The key that [`start`] tells: as it is, or in hex where it was of bytes.
pub(super) fn key(start: &str) -> Option<KeyId> {
    match start.len() {
        BASE64 => rekey_envelope::key_id_of_text_prefix(start),
        HEX => start.strip_prefix("01")?.parse().ok(),
        length if length == BASE64 * 2 || length == HEX * 2 => {
            key(&String::from_utf8(hex::decode(start).ok()?).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_tells_its_key_in_whichever_way_it_is_written() {
        let expected = Some(KeyId::new(0x0a1b_2c3d));
        for start in ["AQobLD0", "010a1b2c3d", "010A1B2C3D"] {
            assert_eq!(key(start), expected, "{start}");
            assert_eq!(key(&hex::encode(start)), expected, "{start}");
        }
        for none in ["", "-", "AQ", "0a1b2c3d", "4151", "0z1b2c3d4e"] {
            assert_eq!(key(none), None, "{none}");
        }
    }
}
