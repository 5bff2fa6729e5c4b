//! A directory on a full disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rekey_destinations::{Created, Destination, DestinationError, Directory};
use tempfile::TempDir;

use crate::suite::name;

#[tokio::test]
async fn on_a_full_disk_it_says_so_and_nothing_half_written_counts() {
    let Some(disk) = Disk::of("256k") else {
        return skipped();
    };
    let directory = Directory::new(disk.path().join("backups"));
    let mut made = Vec::new();
    let full = loop {
        let name = name(&format!(
            "bundles/{:08x}/{:064x}.json",
            made.len(),
            made.len()
        ));
        match directory.create(&name, &vec![7; 10_000]).await {
            Ok(created) => assert_eq!(created, Created::Created),
            Err(full) => break full,
        }
        made.push(name);
    };
    assert_eq!(
        full,
        DestinationError::Full {
            place: directory.place()
        }
    );
    assert!(full.is_retryable() && made.len() > 10, "{} fit", made.len());
    let page = directory.list(&"bundles".parse().unwrap(), None).await;
    assert_eq!(page.unwrap().names, made);
    for name in &made {
        assert_eq!(directory.read(name).await.unwrap(), vec![7; 10_000]);
    }
    let left = fs::read_dir(disk.path().join("backups/.new"));
    assert_eq!(left.unwrap().count(), 0);
    // Given room it goes on.
    let first = made[0].as_str();
    fs::remove_file(disk.path().join("backups").join(first)).unwrap();
    let again = directory.create(&made[0], &vec![7; 10_000]).await;
    assert_eq!(again, Ok(Created::Created));
}

#[tokio::test]
async fn where_nothing_may_be_written_it_says_so() {
    let Some(disk) = Disk::of("64k") else {
        return skipped();
    };
    let directory = Directory::new(disk.path().join("backups"));
    directory.create(&name("a/b"), b"1").await.unwrap();
    mount(&["-o", "remount,ro"], disk.path()).unwrap();
    let denied = directory.create(&name("a/c"), b"1").await.unwrap_err();
    assert!(
        matches!(denied, DestinationError::Denied { .. }),
        "{denied}"
    );
    assert!(!denied.is_retryable());
    assert_eq!(directory.read(&name("a/b")).await.unwrap(), b"1");
}

/// A disk in memory, which only root can have. Dropped, it is gone.
struct Disk(TempDir);

impl Disk {
    fn of(size: &str) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        mount(&["-t", "tmpfs", "-o", &options, "rekey-test"], at.path()).ok()?;
        Some(Self(at))
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], at: impl AsRef<Path>) -> Result<(), ()> {
    let mut command = Command::new("mount");
    let done = command.args(arguments).arg(at.as_ref()).output();
    done.is_ok_and(|done| done.status.success())
        .then_some(())
        .ok_or(())
}

#[expect(clippy::print_stderr, reason = "that it did not run must be seen")]
fn skipped() {
    eprintln!("SKIPPED: a full disk was not tried, as only root can mount a tmpfs");
}
