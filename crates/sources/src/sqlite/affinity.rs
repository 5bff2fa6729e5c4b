//! What SQLite makes of a declared type, and what a column of it can hold for us.

use rekey_domain::TextEncoding;

/// How a column converts what is stored in it (SQLite's "type affinity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    /// Converts nothing.
    Blob,
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
        } else if declared.is_empty() || has(&["BLOB"]) || strict && declared == "ANY" {
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
            Self::Blob => Some(TextEncoding::Binary),
            Self::Text => Some(TextEncoding::Base64),
            Self::Integer | Self::Number => None,
        }
    }

    /// Whether a value comes back as it was stored, so that it can bind.
    pub(super) fn can_bind(self) -> bool {
        self != Self::Number
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
            ("", Affinity::Blob),
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
        assert_eq!(Affinity::of("ANY", true), Affinity::Blob);
    }
}
