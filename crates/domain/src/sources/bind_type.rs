//! The types of bind columns, and how values that people or programs give are read as them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::BindValue;

/// The type of a column that values are bound to, as its database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindType {
    /// Whole numbers of 16 bits.
    Int2,
    /// Whole numbers of 32 bits.
    Int4,
    /// Whole numbers of 64 bits.
    Int8,
    /// UUIDs.
    Uuid,
    /// Texts, as they are.
    Text,
    /// `char(n)`: the database fills texts up with blanks to this many characters.
    Char(u32),
    /// `varchar(n)`: the database refuses longer texts, but cuts blanks beyond this many characters off unseen. The
    /// store keeps it as [`Text`](Self::Text), with the length beside it.
    Varchar(u32),
    /// `bytea` or BLOB.
    Bytes,
}

/// A value that no row has in a column of this type. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct NotOfType {
    /// What the column holds, and how it is written.
    pub expected: BindType,
    /// What was given.
    pub found: String,
}

impl BindType {
    /// The value as it stands in a row of the column; all ways of writing it give the same.
    ///
    /// # Errors
    /// [`NotOfType`] where no row can have it.
    pub fn fit(self, value: &BindValue) -> Result<BindValue, NotOfType> {
        let fitted = self.fit_to_open(value)?;
        match &fitted {
            BindValue::Text(text) if !self.holds(text) => Err(self.is_not(value)),
            _ => Ok(fitted),
        }
    }

    /// The same of a value that is there already: a column may have become longer since its length was noted.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn fit_to_open(self, value: &BindValue) -> Result<BindValue, NotOfType> {
        use BindValue::{Bytes, Integer, Text, Uuid};
        let fitted = match (self, value) {
            (Self::Int2 | Self::Int4 | Self::Int8, Integer(number)) => self.whole(*number),
            (Self::Int2 | Self::Int4 | Self::Int8, Text(text)) => {
                integer(text).and_then(|number| self.whole(number))
            }
            (Self::Uuid, Uuid(bytes)) => Some(Uuid(*bytes)),
            (Self::Uuid, Bytes(bytes)) => bytes.as_slice().try_into().ok().map(Uuid),
            (Self::Uuid, Text(text)) => uuid(text).map(Uuid),
            (Self::Text | Self::Varchar(_), Integer(number)) => Some(Text(number.to_string())),
            (Self::Text | Self::Varchar(_), Uuid(bytes)) => Some(Text(hyphenated(bytes))),
            (Self::Text | Self::Varchar(_), Text(text)) => Some(Text(text.clone())),
            (Self::Char(length), Text(text)) => filled_up(text, length),
            (Self::Char(length), Integer(number)) => filled_up(&number.to_string(), length),
            (Self::Char(length), Uuid(bytes)) => filled_up(&hyphenated(bytes), length),
            (Self::Bytes, Bytes(bytes)) => Some(Bytes(bytes.clone())),
            (Self::Bytes, Uuid(bytes)) => Some(Bytes(bytes.to_vec())),
            (Self::Bytes, Text(text)) => bytes_of(text).map(Bytes),
            _ => None,
        };
        fitted.ok_or_else(|| self.is_not(value))
    }

    /// Whether a row can hold the text. What stands behind a NUL, PostgreSQL does not take, and SQLite shows to nobody.
    fn holds(self, text: &str) -> bool {
        let fits = match self {
            Self::Varchar(length) => text.chars().count() as u64 <= u64::from(length),
            _ => true,
        };
        fits && !text.contains('\0')
    }

    fn is_not(self, value: &BindValue) -> NotOfType {
        NotOfType {
            expected: self,
            found: described(value),
        }
    }

    fn whole(self, number: i64) -> Option<BindValue> {
        let fits = match self {
            Self::Int2 => i16::try_from(number).is_ok(),
            Self::Int4 => i32::try_from(number).is_ok(),
            _ => true,
        };
        fits.then_some(BindValue::Integer(number))
    }
}

impl fmt::Display for BindType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int2 => f.write_str("a whole number of 16 bits"),
            Self::Int4 => f.write_str("a whole number of 32 bits"),
            Self::Int8 => f.write_str("a whole number of 64 bits"),
            Self::Uuid => f.write_str("a UUID, such as 0198c7a0-0000-7000-8000-000000000000"),
            Self::Text => f.write_str("a text"),
            Self::Char(length) => write!(f, "a text of at most {length} characters"),
            Self::Varchar(length) => write!(
                f,
                "a text of at most {length} characters, blanks at its end included, as of the last rekey apply"
            ),
            Self::Bytes => f.write_str("bytes in hex, such as \\xdeadbeef or deadbeef"),
        }
    }
}

/// As databases read a number: blanks around it, a plus sign and leading zeros mean nothing.
fn integer(text: &str) -> Option<i64> {
    i64::from_str(text.trim_ascii()).ok()
}

/// With hyphens or without, in braces or as a URN, in either case.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let parsed = uuid::Uuid::parse_str(text.trim_ascii()).ok()?;
    Some(parsed.into_bytes())
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*bytes).to_string()
}

/// As PostgreSQL fills it up; blanks at its end mean nothing.
fn filled_up(text: &str, length: u32) -> Option<BindValue> {
    let text = text.trim_end_matches(' ');
    let length = usize::try_from(length).ok()?;
    let missing = length.checked_sub(text.chars().count())?;
    Some(BindValue::Text(text.to_owned() + &" ".repeat(missing)))
}

/// Hex digits, bare or as PostgreSQL and SQLite show them; also the usual form of a UUID that is kept as bytes.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    if text.contains('-') {
        return uuid(text).map(|bytes| bytes.to_vec());
    }
    let quoted = text
        .strip_prefix(['X', 'x'])
        .and_then(|text| text.strip_prefix('\''));
    let quoted = quoted.and_then(|rest| rest.strip_suffix('\''));
    hex::decode(quoted.or(text.strip_prefix("\\x")).unwrap_or(text)).ok()
}

fn described(value: &BindValue) -> String {
    match value {
        BindValue::Integer(_) => "a whole number".to_owned(),
        BindValue::Uuid(_) => "a UUID".to_owned(),
        BindValue::Text(text) if text.contains('\0') => "a text with a NUL".to_owned(),
        BindValue::Text(text) => format!(
            "a text of {} character(s) that is none",
            text.chars().count()
        ),
        BindValue::Bytes(bytes) => format!("{} byte(s)", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [
        0xa1, 0x98, 0xc7, 0xa0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x0a,
    ];

    fn text(text: &str) -> BindValue {
        BindValue::from(text)
    }

    #[test]
    fn whatever_way_a_value_is_written_it_is_the_one_that_stands_in_the_row() {
        let uuid = || BindValue::Uuid(ID);
        let bytes = || BindValue::Bytes(vec![0xde, 0xad, 0xbe, 0xef]);
        let usual = "a198c7a0-0000-7000-8000-00000000000a";
        for (of, given, expected) in [
            (BindType::Int4, text("042"), 42.into()),
            (BindType::Int4, text("+7"), 7.into()),
            (BindType::Int2, text(" 8"), 8.into()),
            (BindType::Int8, text("-0"), 0.into()),
            (BindType::Int8, text("-007\n"), (-7).into()),
            (BindType::Uuid, text(usual), uuid()),
            (BindType::Uuid, text(&usual.to_uppercase()), uuid()),
            (BindType::Uuid, text(&format!("{{{usual}}}")), uuid()),
            (BindType::Uuid, text(&usual.replace('-', "")), uuid()),
            (BindType::Uuid, BindValue::Bytes(ID.to_vec()), uuid()),
            (BindType::Bytes, text("\\xDEADBEEF"), bytes()),
            (BindType::Bytes, text("deadBEEF"), bytes()),
            (BindType::Bytes, text("X'DEADBEEF'"), bytes()),
            (BindType::Bytes, text("\\x"), BindValue::Bytes(Vec::new())),
            (BindType::Bytes, uuid(), BindValue::Bytes(ID.to_vec())),
            (BindType::Bytes, text(usual), BindValue::Bytes(ID.to_vec())),
            (BindType::Text, text(" 042"), text(" 042")),
            (BindType::Text, 42.into(), text("42")),
            (BindType::Text, uuid(), text(usual)),
            (BindType::Char(5), text("ab"), text("ab   ")),
            (BindType::Char(5), text("ab   "), text("ab   ")),
            (BindType::Char(3), text("żóć  "), text("żóć")),
            (BindType::Char(3), 7.into(), text("7  ")),
            (BindType::Varchar(3), text("żó "), text("żó ")),
            (BindType::Varchar(3), 777.into(), text("777")),
            (BindType::Varchar(36), uuid(), text(usual)),
        ] {
            assert_eq!(of.fit(&given), Ok(expected), "{of:?} {given:?}");
        }
    }

    #[test]
    fn what_no_row_can_have_is_refused_and_not_quoted() {
        for (of, given) in [
            (BindType::Int4, text("abc")),
            (BindType::Int4, text("")),
            (BindType::Int4, text("4 2")),
            (BindType::Int4, text("0x10")),
            (BindType::Int4, text("7.0")),
            (BindType::Int4, 2_147_483_648.into()),
            (BindType::Int2, text("32768")),
            (BindType::Int8, text("9223372036854775808")),
            (BindType::Int4, BindValue::Bytes(vec![7])),
            (BindType::Uuid, text("123-45-6789")),
            (BindType::Uuid, 42.into()),
            (BindType::Uuid, BindValue::Bytes(vec![7; 15])),
            (BindType::Bytes, text("abc")),
            (BindType::Bytes, text("xyz")),
            (BindType::Bytes, 42.into()),
            (BindType::Text, BindValue::Bytes(vec![7])),
            (BindType::Char(3), text("abcd")),
            (BindType::Char(9), text("abc\0d")),
            (BindType::Varchar(3), text("abcd")),
            (BindType::Varchar(3), text("abc ")),
            (BindType::Varchar(3), 7_777.into()),
            (BindType::Varchar(35), BindValue::Uuid(ID)),
            (BindType::Varchar(9), text("abc\0d")),
            (BindType::Text, text("abc\0d")),
        ] {
            let refused = of.fit(&given).unwrap_err().to_string();
            assert!(refused.contains("expected"), "{refused}");
            for quoted in ["6789", "abc", "xyz"] {
                assert!(!refused.contains(quoted), "{refused}");
            }
        }
    }

    #[test]
    fn what_is_there_opens_though_its_column_became_longer() {
        for (of, value) in [
            (BindType::Varchar(3), text("abc ")),
            (BindType::Varchar(3), text("abcdef")),
            (BindType::Text, text("abc\0d")),
        ] {
            assert_eq!(of.fit_to_open(&value), Ok(value));
        }
        assert!(BindType::Int4.fit_to_open(&text("abc")).is_err());
    }

    #[test]
    fn what_stands_in_a_row_stays_as_it_is() {
        for (of, value) in [
            (BindType::Int2, BindValue::from(-5)),
            (BindType::Uuid, BindValue::Uuid(ID)),
            (BindType::Text, text("a/b%c")),
            (BindType::Char(4), text("ab  ")),
            (BindType::Varchar(4), text("ab  ")),
            (BindType::Bytes, BindValue::Bytes(vec![0, 255])),
        ] {
            assert_eq!(of.fit(&value), Ok(value));
        }
    }
}
