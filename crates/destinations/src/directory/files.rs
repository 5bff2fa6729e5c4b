//! Files and directories below a root, without following symbolic links.

use std::{
    fs::{self, DirBuilder, File, FileType, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::OFlag;

use crate::{DestinationError, Doing, MAX_LEN, ObjectName};

/// What is wrong in a directory.
#[derive(Debug)]
pub(super) enum Problem {
    Missing(ObjectName),
    TooLong,
    NoPlace,
    InTheWay {
        what: String,
        expected: &'static str,
        found: &'static str,
    },
    NoHardLinks,
    Io(ErrorKind),
}

impl Problem {
    /// The text of the operating system is left out, as it may quote paths of others.
    pub(super) fn at(self, place: String, doing: Doing) -> DestinationError {
        match self {
            Self::Missing(name) => DestinationError::Missing { place, name },
            Self::TooLong => DestinationError::TooLong {
                place,
                limit: MAX_LEN,
            },
            Self::NoPlace => DestinationError::NoPlace { place },
            Self::InTheWay {
                what,
                expected,
                found,
            } => DestinationError::InTheWay {
                place,
                what,
                expected,
                found,
            },
            Self::NoHardLinks => DestinationError::Configuration {
                place,
                problem: "its file system makes no hard links, without which an object could be overwritten; expected one that does, such as ext4, xfs or NFS",
            },
            Self::Io(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                DestinationError::Full { place }
            }
            Self::Io(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                DestinationError::Denied { place, doing }
            }
            Self::Io(kind) => DestinationError::Io { place, doing, kind },
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// The bytes of an object, if it is a file of at most [`MAX_LEN`].
pub(super) fn read(root: &Path, name: &ObjectName) -> Result<Vec<u8>, Problem> {
    let path = find_folders(root, name)?;
    let missing = || Problem::Missing(name.clone());
    let found = is_there(&path)?.ok_or_else(missing)?;
    if !found.is_file() {
        return Err(in_the_way(name.as_str(), "a file", found));
    }
    let file = open(&path)?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_LEN {
        return Err(Problem::TooLong);
    }
    Ok(bytes)
}

/// Takes an object away, through to the disk. Gone already is done.
pub(super) fn remove(root: &Path, name: &ObjectName) -> Result<(), Problem> {
    let path = match find_folders(root, name) {
        Err(Problem::Missing(_)) => return Ok(()),
        found => found?,
    };
    match is_there(&path)? {
        None => return Ok(()),
        Some(found) if !found.is_file() => {
            return Err(in_the_way(name.as_str(), "a file", found));
        }
        Some(_) => fs::remove_file(&path)?,
    }
    sync_directory(&path)
}

/// When an object was made; none: it is not there.
pub(super) fn made_at(root: &Path, name: &ObjectName) -> Result<Option<SystemTime>, Problem> {
    let path = match find_folders(root, name) {
        Err(Problem::Missing(_)) => return Ok(None),
        found => found?,
    };
    match is_there(&path)? {
        None => Ok(None),
        // No object is ever written again.
        Some(_) => Ok(Some(fs::symlink_metadata(&path)?.modified()?)),
    }
}

/// Opens a file to read it. Neither waits for who writes into a pipe, nor follows a link that was just put there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Whether the root is there.
pub(super) fn find_root(root: &Path) -> Result<(), Problem> {
    let found = is_there(root)?.ok_or(Problem::NoPlace)?;
    check_directory(None, found)
}

/// The path of an object whose folders are there, and are directories.
fn find_folders(root: &Path, name: &ObjectName) -> Result<PathBuf, Problem> {
    find_root(root)?;
    let (folders, last) = name.parts();
    let mut path = root.to_owned();
    for part in folders {
        path.push(part);
        let found = is_there(&path)?.ok_or_else(|| Problem::Missing(name.clone()))?;
        check_directory(Some(part), found)?;
    }
    Ok(path.join(last))
}

/// The path of an object, with its folders made where they are missing.
pub(super) fn make_folders(root: &Path, name: &ObjectName) -> Result<PathBuf, Problem> {
    let (folders, last) = name.parts();
    let mut path = root.to_owned();
    for part in folders {
        path.push(part);
        make_directory(&path, Some(part))?;
    }
    Ok(path.join(last))
}

/// Makes a directory that is its owner's alone, unless it is there. The one above it must be.
pub(super) fn make_directory(path: &Path, part: Option<&str>) -> Result<(), Problem> {
    if let Some(found) = is_there(path)? {
        return check_directory(part, found);
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Another made it meanwhile.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => make_directory(path, part),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Problem::NoPlace),
        Err(error) => Err(error.into()),
        Ok(()) => sync_directory(path),
    }
}

/// A new name survives a power failure only when the directory it is in is on the disk too.
pub(super) fn sync_directory(path: &Path) -> Result<(), Problem> {
    let above = path.parent().unwrap_or(Path::new("/"));
    Ok(File::open(above)?.sync_all()?)
}

/// What is at a path, if there is something. A link is a link.
pub(super) fn is_there(path: &Path) -> Result<Option<FileType>, Problem> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Names what is there instead of a directory; without a part it is the root.
pub(super) fn check_directory(part: Option<&str>, found: FileType) -> Result<(), Problem> {
    if found.is_dir() {
        return Ok(());
    }
    Err(in_the_way(part.unwrap_or("itself"), "a directory", found))
}

fn in_the_way(what: &str, expected: &'static str, found: FileType) -> Problem {
    let found = match () {
        () if found.is_symlink() => "a symbolic link",
        () if found.is_dir() => "a directory",
        () if found.is_file() => "a file",
        () => "a pipe, a socket or a device",
    };
    let what = what.to_owned();
    Problem::InTheWay {
        what,
        expected,
        found,
    }
}
