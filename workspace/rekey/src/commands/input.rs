//! Reading from stdin and files, never more than is allowed.

use std::io::{self, IsTerminal, Read};

use anyhow::Context;
use rekey_envelope::Zeroizing;
use rekey_operations::OperationError;

use crate::output;

/// What stdin holds, at most `limit` bytes.
pub fn stdin(what: &str, limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        output::note(&format!("type {what}, then Ctrl-D"));
    }
    read(stdin.lock(), what, limit)
}

/// What a reader holds, at most `limit` bytes; of more, nothing more is read.
pub fn read(reader: impl Read, what: &str, limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{what} cannot be read"))?;
    if bytes.len() as u64 > limit {
        let problem = format!(
            "{what} is too large: expected at most {limit} bytes, found more; nothing was done"
        );
        return Err(OperationError::Refused(problem).into());
    }
    Ok(bytes)
}
