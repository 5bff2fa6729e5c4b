//! Ciphertext is bound to values such as these.

/// One part of what a value is bound to, typed as its column is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindValue {
    /// Any SQL integer type.
    Integer(i64),
    /// A UUID.
    Uuid([u8; 16]),
    /// Text, UTF-8.
    Text(String),
    /// `bytea` or BLOB.
    Bytes(Vec<u8>),
}

impl From<i64> for BindValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for BindValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
