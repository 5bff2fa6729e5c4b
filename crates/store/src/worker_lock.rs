//! One worker process on a SQLite store: a lock file that the system drops with the process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use crate::StoreError;

/// Held as long as the process serves the store.
#[derive(Debug)]
pub struct WorkerLock {
    _file: File,
}

impl WorkerLock {
    /// Takes the lock beside the database file.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another worker process holds it.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let path = database.with_extension("worker-lock");
        let locked = |reason: String| StoreError::Locked {
            path: format!("{}{reason}", path.display()),
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| locked(format!(" ({error})")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(locked(String::new())),
            Err(TryLockError::Error(error)) => Err(locked(format!(" ({error})"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("store.db");
        let first = WorkerLock::take(&database).unwrap();
        let refused = WorkerLock::take(&database).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }));
        assert!(refused.to_string().contains("store.worker-lock"));
        drop(first);
        WorkerLock::take(&database).unwrap();
    }

    #[test]
    fn stores_beside_each_other_have_locks_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let lock = |name: &str| WorkerLock::take(&dir.path().join(name));
        let _one = lock("one.db").unwrap();
        let _two = lock("two.db").unwrap();
    }
}
