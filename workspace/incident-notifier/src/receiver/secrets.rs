//! Secrets and URLs in files, which nobody else may read.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rekey_domain::io_words;
use secrecy::SecretString;

use super::problem::Problem;

/// Secrets and URLs are short.
const LIMIT: u64 = 4_096;
/// Others than the owner's group.
const OTHERS: u32 = 0o007;

/// What stands in the file, without the white space around it.
pub(super) fn read(key: &'static str, file: &Path) -> Result<SecretString, Problem> {
    let wrong = |problem: String| Problem {
        key,
        problem: format!("{file:?} {problem}"),
        is_missing: false,
    };
    let unreadable = |error: std::io::Error| Problem {
        is_missing: error.kind() == ErrorKind::NotFound,
        ..wrong(format!("cannot be read: {}", io_words(&error)))
    };
    // A pipe would be waited for.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(wrong("is no regular file".to_owned()));
    }
    let open = File::open(file).map_err(unreadable)?;
    let mode = open.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(wrong(format!(
            "has permissions {mode:04o}: others have rights on it; chmod 640 it, or 600"
        )));
    }
    let mut text = String::new();
    let length = open.take(LIMIT + 1).read_to_string(&mut text);
    if length.map_err(unreadable)? as u64 > LIMIT {
        return Err(wrong(format!("has more than {LIMIT} bytes")));
    }
    match text.trim() {
        "" => Err(wrong("is empty".to_owned())),
        text if text.contains(['\n', '\r']) => Err(wrong("has more than one line".to_owned())),
        text => Ok(text.into()),
    }
}
