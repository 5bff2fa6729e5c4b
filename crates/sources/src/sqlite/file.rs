//! The file that a path names, and whether it has other names: SQLite keeps the latest writes in a file beside the name
//! by which the database was opened.

use std::{
    fs::Metadata,
    io,
    path::{Path, PathBuf},
};

use crate::SourceError;

/// What stays the same while a path names the same file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// Looks at the file. Asked at each use: another name may come at any time.
    ///
    /// # Errors
    /// [`SourceError::OtherName`]; [`SourceError::OutOfReach`].
    pub(super) async fn of(path: &Path, database: &str) -> Result<Self, SourceError> {
        let real = real_path(path, database).await?;
        let metadata = tokio::fs::metadata(&real).await;
        let metadata = metadata.map_err(|error| out_of_reach(&error, database))?;
        let other_name = |how, remedy| SourceError::OtherName {
            database: database.to_owned(),
            how,
            remedy,
        };
        if metadata.is_file() && links(&metadata) > 1 {
            let how = "has more than one name (hard links)";
            return Err(other_name(how, "remove all but one"));
        }
        if is_mounted(&real).await {
            let how = "is mounted alone, without the directory that it is in";
            return Err(other_name(how, "mount that directory"));
        }
        Ok(id_of(&metadata))
    }
}

impl FileId {
    /// The same in words; None where the system does not tell.
    pub(super) fn as_text(self) -> Option<String> {
        let Self(device, inode) = self;
        cfg!(unix).then(|| format!("file {device}:{inode}"))
    }
}

/// The file, whatever symlinks lead to it; SQLite follows them to it, too.
pub(super) async fn real_path(path: &Path, database: &str) -> Result<PathBuf, SourceError> {
    let real = tokio::fs::canonicalize(path).await;
    real.map_err(|error| out_of_reach(&error, database))
}

fn out_of_reach(error: &io::Error, database: &str) -> SourceError {
    SourceError::OutOfReach {
        database: database.to_owned(),
        reason: rekey_domain::io_words(error),
    }
}

#[cfg(unix)]
fn id_of(metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId(metadata.dev(), metadata.ino())
}

/// Elsewhere an open file can be neither deleted nor replaced.
#[cfg(not(unix))]
fn id_of(_: &Metadata) -> FileId {
    FileId(0, 0)
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

/// Whether the path is itself a mount point. Linux tells; elsewhere nobody mounts a file.
async fn is_mounted(path: &Path) -> bool {
    let mounts = tokio::fs::read("/proc/self/mountinfo").await;
    mounts.is_ok_and(|mounts| is_mount_point(&mounts, path))
}

/// The fifth word of each line of `mountinfo` is where something is mounted.
fn is_mount_point(mounts: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    mounts.split(|byte| *byte == b'\n').any(|mount| {
        let place = mount.split(|byte| *byte == b' ').nth(4);
        place.is_some_and(|place| unescaped(place) == path)
    })
}

/// The kernel writes a space, a tab, a newline and a backslash as three octal digits behind a backslash.
fn unescaped(mut word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    while let Some((first, rest)) = word.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let escaped = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|text| u8::from_str_radix(text, 8).ok());
        plain.push(escaped.unwrap_or(*first));
        word = if escaped.is_some() { &rest[3..] } else { rest };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_mounted_alone_is_told_from_one_in_a_directory_that_is_mounted() {
        let mounts = b"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            41 29 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n\
            42 29 8:1 /srv/clinic.db /data/clinic.db rw - ext4 /dev/sda1 rw\n\
            43 29 8:1 /srv/c.db /my\\040data\\134/c.db rw - ext4 /dev/sda1 rw\n";
        for (path, mounted) in [
            ("/data/clinic.db", true),
            ("/my data\\/c.db", true),
            ("/data/other.db", false),
            ("/srv/clinic.db", false),
            ("/data/clinic.db-wal", false),
        ] {
            assert_eq!(is_mount_point(mounts, Path::new(path)), mounted, "{path}");
        }
        assert!(!is_mount_point(b"", Path::new("/data/clinic.db")));
    }

    #[tokio::test]
    async fn what_the_kernel_says_is_understood() {
        assert_eq!(
            is_mounted(Path::new("/proc")).await,
            cfg!(target_os = "linux")
        );
        let directory = tempfile::TempDir::new().unwrap();
        assert!(!is_mounted(&directory.path().join("clinic.db")).await);
    }
}
