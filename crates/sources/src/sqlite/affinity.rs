//! What SQLite makes of a declared type, and what a column of it can hold for us.

use rekey_domain::{BindType, BindValue, TextEncoding};

/// How a column converts what is stored in it (SQLite's "type affinity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    /// Converts nothing.
    Blob,
    /// No type was declared: converts nothing, and may hold anything.
    Any,
    /// REAL and NUMERIC: text that looks like a number becomes one.
    Number,
}

impl Affinity {
    /// SQLite's rules, in SQLite's order.
    pub(super) fn of(declared: &str, strict: bool) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || strict && declared == "ANY" {
            Self::Any
        } else if has(&["BLOB"]) {
            Self::Blob
        } else if has(&["BINARY", "BYTEA"]) {
            // NUMERIC by the rules, but no affinity converts a blob, and these names mean one.
            Self::Blob
        } else {
            Self::Number
        }
    }

    /// How ciphertext would stand in the column.
    pub(super) fn encoding(self) -> Option<TextEncoding> {
        match self {
            Self::Blob | Self::Any => Some(TextEncoding::Binary),
            Self::Text => Some(TextEncoding::Base64),
            Self::Integer | Self::Number => None,
        }
    }
}

/// The storage class of the values that bind others in a column. SQLite stores any class in any column,
/// and the number 31, the text '31' and the blob x'31' would be the same associated data: so a column
/// has one, by its declared type, and values of another bind nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindClass {
    Integer,
    Text,
    Blob,
}

impl BindClass {
    /// None where values do not come back as they were stored, or may be of any class.
    pub(super) fn of(declared: &str, strict: bool) -> Option<Self> {
        match Affinity::of(declared, strict) {
            Affinity::Integer => Some(Self::Integer),
            // SeaORM declares uuid_text, and stores 16 bytes.
            Affinity::Text if declared.to_ascii_uppercase().contains("UUID") => Some(Self::Blob),
            Affinity::Text => Some(Self::Text),
            Affinity::Blob => Some(Self::Blob),
            Affinity::Any | Affinity::Number => None,
        }
    }

    /// What such values are in every kind of database.
    pub(super) fn bind_type(self) -> BindType {
        match self {
            Self::Integer => BindType::Int8,
            Self::Text => BindType::Text,
            Self::Blob => BindType::Bytes,
        }
    }

    /// Whether a value of the column is of its class.
    pub(super) fn admits(self, value: &BindValue) -> bool {
        matches!(
            (self, value),
            (Self::Integer, BindValue::Integer(_))
                | (Self::Text, BindValue::Text(_))
                | (Self::Blob, BindValue::Bytes(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_follow_sqlites_rules() {
        let cases = [
            ("INTEGER", Affinity::Integer),
            ("bigint unsigned", Affinity::Integer),
            ("CHARINT", Affinity::Integer),
            ("FLOATING POINT", Affinity::Integer),
            ("VARCHAR(11)", Affinity::Text),
            ("text", Affinity::Text),
            ("CLOB", Affinity::Text),
            ("", Affinity::Any),
            ("blob", Affinity::Blob),
            ("VARBINARY(300)", Affinity::Blob),
            ("bytea", Affinity::Blob),
            ("REAL", Affinity::Number),
            ("DECIMAL(10,2)", Affinity::Number),
            ("UUID", Affinity::Number),
            ("ANY", Affinity::Number),
        ];
        for (declared, affinity) in cases {
            assert_eq!(Affinity::of(declared, false), affinity, "{declared}");
        }
        assert_eq!(Affinity::of("ANY", true), Affinity::Any);
    }

    #[test]
    fn a_bind_column_has_one_storage_class_or_cannot_bind() {
        let cases = [
            ("BIGINT", Some(BindClass::Integer)),
            ("VARCHAR(11)", Some(BindClass::Text)),
            ("BINARY(16)", Some(BindClass::Blob)),
            ("uuid_text", Some(BindClass::Blob)),
            ("", None),
            ("UUID", None),
            ("REAL", None),
        ];
        for (declared, class) in cases {
            assert_eq!(BindClass::of(declared, false), class, "{declared}");
        }
        assert_eq!(BindClass::of("ANY", true), None);
    }
}
