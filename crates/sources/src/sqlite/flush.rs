//! Flushing: writes the WAL to the disk, so that what was read outlives a loss of power although its commit did not
//! wait.

use std::{ffi::OsString, io, path::Path};

use tokio::fs::{File, canonicalize};

use crate::SourceError;

/// Waits until the WAL beside the file is on the disk; without a WAL there is nothing to wait for. SQLite keeps no
/// locks on the WAL, so opening and closing it is safe; closing the database file would drop locks.
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
