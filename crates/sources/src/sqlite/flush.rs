//! Making what was read outlive a loss of power: what others committed to the WAL without waiting.

use std::{ffi::OsString, io, path::Path};

use tokio::fs::{File, canonicalize};

use crate::SourceError;

/// Waits until the WAL beside the file is on the disk; without one, nothing can be waited for. SQLite's
/// locks are not on it, so it may be opened and closed beside SQLite, which the database may not.
pub(super) async fn wal(path: &Path, database: &str) -> Result<(), SourceError> {
    match sync(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SourceError::OutOfReach {
            database: database.to_owned(),
            reason: rekey_domain::io_words(&error),
        }),
        _ => Ok(()),
    }
}

async fn sync(path: &Path) -> io::Result<()> {
    let mut wal: OsString = canonicalize(path).await?.into();
    wal.push("-wal");
    File::open(wal).await?.sync_data().await
}
