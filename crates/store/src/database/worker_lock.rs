//! One worker process on a SQLite store: a lock file that the system drops with the process.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    path::Path,
};

use crate::StoreError;

/// Held as long as the process serves the store.
#[derive(Debug)]
pub struct WorkerLock {
    _file: File,
}

impl WorkerLock {
    /// Takes the lock beside the database file itself: a lock beside a link to it would be another lock.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another worker process holds it; [`StoreError::OtherName`] where the
    /// file has a second name.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let gone = |error: io::Error| {
            let path = database.display();
            StoreError::OutOfReach(format!("{path}: {}", rekey_domain::io_words(&error)))
        };
        let real = database.canonicalize().map_err(gone)?;
        if links(&real.metadata().map_err(gone)?) > 1 {
            return Err(StoreError::OtherName {
                path: real.display().to_string(),
            });
        }
        let path = real.with_extension("worker-lock");
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

#[cfg(unix)]
fn links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// Unknown on such systems.
#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn whatever_leads_to_a_store_it_has_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (database, link) = (dir.path().join("store.db"), other.path().join("store.db"));
        File::create(&database).unwrap();
        std::os::unix::fs::symlink(&database, &link).unwrap();
        let first = WorkerLock::take(&database).unwrap();
        let refused = WorkerLock::take(&link).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        drop(first);
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&database, &link).unwrap();
        for name in [&database, &link] {
            let refused = WorkerLock::take(name).unwrap_err();
            assert!(matches!(refused, StoreError::OtherName { .. }), "{refused}");
        }
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("store.db");
        File::create(&database).unwrap();
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
        let lock = |name: &str| {
            let database = dir.path().join(name);
            File::create(&database).unwrap();
            WorkerLock::take(&database)
        };
        let _one = lock("one.db").unwrap();
        let _two = lock("two.db").unwrap();
    }
}
