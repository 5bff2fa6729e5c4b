//! People and files write values: ciphertext, and what it is bound to.

use rekey_domain::BindValue;
use rekey_envelope::{Ciphertext, Zeroizing, decode_base64};
use uuid::Uuid;

use crate::exit::UsageError;

/// Ciphertext begins with byte 1, which base64 does not contain, so the input shows whether it is bytes or base64.
pub fn ciphertext(bytes: Zeroizing<Vec<u8>>, what: &str) -> Result<Vec<u8>, UsageError> {
    if Ciphertext::parse(&bytes).is_ok() {
        return Ok(bytes.to_vec());
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    let decoded = text.and_then(|text| decode_base64(text).ok());
    decoded.filter(|decoded| Ciphertext::parse(decoded).is_ok()).ok_or_else(|| {
        let found = bytes.len();
        UsageError(format!(
            "{what} holds no ciphertext: expected its bytes or standard base64 of them, found {found} bytes of something else; perhaps the value was never encrypted"
        ))
    })
}

/// A value that a column is bound to, as a person writes it on the command line. Without a type before
/// it, it is a text that the column's type reads.
pub fn bind_value(text: &str) -> Result<BindValue, String> {
    let forced = text.split_once(':');
    match forced {
        Some(("text", rest)) => Ok(BindValue::Text(rest.to_owned())),
        Some(("int", rest)) => {
            integer(rest).ok_or_else(|| "expected int: and a whole number".to_owned())
        }
        Some(("uuid", rest)) => uuid(rest).ok_or_else(|| {
            "expected uuid: and a UUID, such as uuid:0198c7a0-0000-7000-8000-000000000000"
                .to_owned()
        }),
        Some(("hex", rest)) => {
            let bytes = hex::decode(rest).ok().map(BindValue::Bytes);
            bytes.ok_or_else(|| "expected hex: and an even number of hex digits".to_owned())
        }
        _ => Ok(BindValue::Text(text.to_owned())),
    }
}

fn integer(text: &str) -> Option<BindValue> {
    text.parse().ok().map(BindValue::Integer)
}

/// A UUID in any of its forms.
pub fn uuid(text: &str) -> Option<BindValue> {
    let uuid = Uuid::parse_str(text).ok()?;
    Some(BindValue::Uuid(uuid.into_bytes()))
}

#[cfg(test)]
mod tests {
    use rekey_envelope::encode_base64;

    use super::*;

    #[test]
    fn a_bind_value_says_its_type() {
        let uuid = "0198c7a0-0000-7000-8000-00000000000a";
        let of_uuid = BindValue::Uuid(Uuid::parse_str(uuid).unwrap().into_bytes());
        for (text, expected) in [
            ("42", "42".into()),
            ("007", "007".into()),
            ("int:7", BindValue::Integer(7)),
            ("int:-007", BindValue::Integer(-7)),
            ("text:42", "42".into()),
            ("urn:x", "urn:x".into()),
            ("hex:00ff", BindValue::Bytes(vec![0, 255])),
            (&format!("uuid:{uuid}"), of_uuid),
            (uuid, uuid.into()),
        ] {
            assert_eq!(bind_value(text), Ok(expected), "{text}");
        }
        for bad in ["hex:0", "hex:zz", "uuid:1", "int:x"] {
            assert!(bind_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ciphertext_is_read_in_both_forms() {
        let sealed: Vec<u8> = std::iter::once(1).chain([7; 40]).collect();
        let base64 = format!("{}\n", encode_base64(&sealed));
        assert_eq!(
            ciphertext(Zeroizing::new(sealed.clone()), "stdin").unwrap(),
            sealed
        );
        assert_eq!(
            ciphertext(Zeroizing::new(base64.into_bytes()), "stdin").unwrap(),
            sealed
        );
        assert!(ciphertext(Zeroizing::new(b"123-45-6789".to_vec()), "stdin").is_err());
        assert!(ciphertext(Zeroizing::new(Vec::new()), "stdin").is_err());
    }
}
