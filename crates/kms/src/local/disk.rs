//! The master key file on disk: private to its owner, whole or not there at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rekey_envelope::Zeroizing;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{KeyFileProblem, KmsError};

/// What [`MasterKeyInfo`](crate::MasterKeyInfo) and errors call it.
pub(super) const PROVIDER: &str = "local";

/// Room for hundreds of master keys, and small enough to be read whole whatever is at the path.
const MAX_LEN: u64 = 64 * 1024;

/// Runs `work` on the file at `path` where it may block, and names the file in its error.
pub(super) async fn on_file<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, KeyFileProblem> + Send + 'static,
) -> Result<T, KmsError> {
    let done =
        spawn_blocking(move || work(&path).map_err(|problem| KmsError::KeyFile { path, problem }));
    // It ends without a result only when the process shuts down.
    done.await.map_err(|error| KmsError::OutOfReach {
        provider: PROVIDER,
        reason: error.to_string(),
    })?
}

/// Reads the file at `path`, if nobody but its owner has any right on it.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileProblem> {
    // Looked at before it is opened, as opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(problem)?.is_file() {
        return Err(KeyFileProblem::NotAFile);
    }
    let file = File::open(path).map_err(problem)?;
    check_private(&file)?;
    // All the room at once: growing would leave copies of the keys behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 64));
    file.take(MAX_LEN + 1)
        .read_to_end(&mut contents)
        .map_err(problem)?;
    if contents.len() as u64 > MAX_LEN {
        return Err(KeyFileProblem::TooLarge { limit: MAX_LEN });
    }
    Ok(contents)
}

/// Makes the file at `path`, unless there is one: that one then stays as it is.
pub(super) fn create(path: &Path, contents: &[u8]) -> Result<(), KeyFileProblem> {
    let new = NewFile::write_beside(path, contents)?;
    // A hard link fails if the file exists, unlike a rename, and is complete when it appears, unlike a write.
    match fs::hard_link(&new.path, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(problem(error)),
        _ => sync_directory(path),
    }
}

/// Keeps others from changing the file at `path` until the answer is dropped, however its process
/// ends. The file itself is locked, so that nothing lies beside it.
pub(super) fn lock(path: &Path) -> Result<File, KeyFileProblem> {
    loop {
        if !fs::metadata(path).map_err(problem)?.is_file() {
            return Err(KeyFileProblem::NotAFile);
        }
        let file = File::open(path).map_err(problem)?;
        file.lock().map_err(problem)?;
        // Whoever held the lock before may have put another file in its place.
        let [locked, there] = [file.metadata(), fs::metadata(path)].map(|found| {
            found
                .map(|found| (found.dev(), found.ino()))
                .map_err(problem)
        });
        if locked? == there? {
            return Ok(file);
        }
    }
}

/// Replaces the file at `path`, which the caller has locked: readers see the old contents or the new.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), KeyFileProblem> {
    // Never writes more than can be read again.
    if contents.len() as u64 > MAX_LEN {
        return Err(KeyFileProblem::Full { limit: MAX_LEN });
    }
    // Behind a symbolic link it is the file that is replaced, not the link.
    let path = fs::canonicalize(path).map_err(problem)?;
    let new = NewFile::write_beside(&path, contents)?;
    fs::rename(&new.path, &path).map_err(problem)?;
    sync_directory(&path)
}

/// Names an error of the operating system; its text is left out, as it may quote paths of others.
pub(super) fn problem(error: io::Error) -> KeyFileProblem {
    match error.kind() {
        io::ErrorKind::NotFound => KeyFileProblem::Missing,
        kind => KeyFileProblem::Io(kind),
    }
}

/// Asked of the open file, so that the file that is checked is the file that is read.
fn check_private(file: &File) -> Result<(), KeyFileProblem> {
    let mode = file.metadata().map_err(problem)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyFileProblem::OpenToOthers { mode })
}

/// A file on its way to its place; removed again unless it got there.
struct NewFile {
    path: PathBuf,
}

impl NewFile {
    /// Writes `contents` through to the disk, in the directory of `path`, under another name.
    fn write_beside(path: &Path, contents: &[u8]) -> Result<Self, KeyFileProblem> {
        let new = Self {
            path: path.with_added_extension(format!("{}.new", Uuid::new_v4())),
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new.path)
            .map_err(no_directory)?;
        file.write_all(contents).map_err(problem)?;
        file.sync_all().map_err(problem)?;
        Ok(new)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; and a failure has been reported already.
        let _ = fs::remove_file(&self.path);
    }
}

fn no_directory(error: io::Error) -> KeyFileProblem {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => KeyFileProblem::NoDirectory,
        kind => KeyFileProblem::Io(kind),
    }
}

/// A new name survives a power failure only when its directory is on the disk too.
fn sync_directory(path: &Path) -> Result<(), KeyFileProblem> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(problem)
}
