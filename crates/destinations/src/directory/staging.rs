//! Files on their way: written whole under a name that is no object's, then given theirs.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::files::{self, Problem};
use crate::Created;

/// Below the root. No name of an object begins with a dot.
const FOLDER: &str = ".new";
/// How many left files one call looks at.
const LOOK_AT: usize = 100;
/// How often a file may be taken for a left one between its making and its lock.
const ATTEMPTS: usize = 10;

/// A file on its way. Dropped, it is removed; the name it was given stays.
pub(super) struct Staged {
    path: PathBuf,
    /// Locked as long as it is on its way, so that others see that its maker lives.
    file: File,
}

impl Staged {
    /// Writes `bytes` through to the disk.
    pub(super) fn write(root: &Path, bytes: &[u8]) -> Result<Self, Problem> {
        let folder = root.join(FOLDER);
        files::make_directory(&folder, Some(FOLDER))?;
        remove_left(&folder)?;
        let mut staged = Self::make(&folder)?;
        staged.file.write_all(bytes)?;
        staged.file.sync_all()?;
        Ok(staged)
    }

    fn make(folder: &Path) -> Result<Self, Problem> {
        for _ in 0..ATTEMPTS {
            let path = folder.join(Uuid::new_v4().to_string());
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            let staged = Self { path, file };
            staged.file.lock()?;
            if staged.file.metadata()?.nlink() > 0 {
                return Ok(staged);
            }
        }
        Err(Problem::Io(ErrorKind::Interrupted))
    }

    /// Gives it the name, unless something has that.
    pub(super) fn publish(self, path: &Path) -> Result<Created, Problem> {
        // Unlike a rename a hard link fails if the name is taken; unlike a write it is whole when it appears.
        match fs::hard_link(&self.path, path) {
            Ok(()) => Ok(Created::Created),
            Err(error) => match error.kind() {
                ErrorKind::AlreadyExists => Ok(Created::AlreadyThere),
                // What Linux says of a file system without hard links.
                ErrorKind::Unsupported | ErrorKind::PermissionDenied if may_write_beside(path) => {
                    Err(Problem::NoHardLinks)
                }
                kind => Err(Problem::Io(kind)),
            },
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A failure has been reported already; the file is then removed as one that was left.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether it is not for want of a right that a link could not be made.
fn may_write_beside(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    let beside = folder.join(format!(".{}", Uuid::new_v4()));
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside);
    // It was just made, by us.
    let _ = fs::remove_file(&beside);
    made.is_ok()
}

/// Removes files whose makers died: nobody holds their lock.
fn remove_left(folder: &Path) -> Result<(), Problem> {
    for entry in fs::read_dir(folder)?.take(LOOK_AT) {
        let path = entry?.path();
        let Ok(file) = files::open(&path) else {
            continue;
        };
        if file.try_lock().is_ok() {
            // Another may have removed it.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}
