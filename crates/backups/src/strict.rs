//! Reading JSON strictly: not too long, of one schema, in the one text that it has.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::CheckpointError;

/// What is longer is not looked at.
pub(crate) fn check_length(limit: usize, bytes: &[u8]) -> Result<(), CheckpointError> {
    let found = bytes.len();
    match found <= limit {
        true => Ok(()),
        false => Err(CheckpointError::TooLong { limit, found }),
    }
}

/// Reads a document of `schema`, if writing it gives the same bytes.
pub(crate) fn read<T: Serialize + DeserializeOwned>(
    schema: &'static str,
    bytes: &[u8],
) -> Result<T, CheckpointError> {
    check_schema(schema, bytes)?;
    let document: T = serde_json::from_slice(bytes).map_err(form)?;
    match write(&document) == bytes {
        true => Ok(document),
        false => Err(CheckpointError::OtherText),
    }
}

/// The one text.
pub(crate) fn write(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("texts, numbers and structs of them are JSON")
}

/// Looked at first, so that what is told of a later version is that.
fn check_schema(expected: &'static str, bytes: &[u8]) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Schema {
        schema: String,
    }
    let Schema { schema } = serde_json::from_slice(bytes).map_err(form)?;
    if schema == expected {
        return Ok(());
    }
    let found = beginning(&schema);
    Err(CheckpointError::Schema { expected, found })
}

/// As much of a text that others wrote as an error shows.
pub(crate) fn beginning(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Where reading ended, and no word of what stood there.
fn form(error: serde_json::Error) -> CheckpointError {
    CheckpointError::Form {
        line: error.line(),
        column: error.column(),
    }
}
