//! The trait that every kind of destination implements.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::{DestinationError, Folder, ObjectName, Page};

/// The most bytes of an object. A bundle has 16 KiB; what lists the states of ten thousand keys has a few MiB.
pub const MAX_LEN: usize = 8 * 1024 * 1024;

/// Every call ends within this time, whatever the destination does.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Where objects are kept. Whoever has it makes objects and reads them; nothing is changed or deleted.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Where it is, for people, without credentials. Asks nobody.
    fn place(&self) -> String;

    /// Makes the object, reads it back and compares it. What stands under that name stays as it is.
    ///
    /// # Errors
    /// [`DestinationError::OtherBytes`] if other bytes stand there. After any other error it is not known whether the
    /// object was made; doing it again tells.
    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, DestinationError>;

    /// The bytes of the object. Never reads more than [`MAX_LEN`], whatever stands there.
    ///
    /// # Errors
    /// [`DestinationError::Missing`] if there is none, [`DestinationError::TooLong`] if it is none of ours.
    async fn read(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError>;

    /// The names in `folder`, in order, from the first behind `after`, at most [`PAGE`](crate::PAGE) of them. Names
    /// that are none of ours are left out.
    ///
    /// # Errors
    /// [`DestinationError`]; a directory or bucket that is not there is an error, not an empty page.
    async fn list(
        &self,
        folder: &Folder,
        after: Option<&ObjectName>,
    ) -> Result<Page, DestinationError>;

    /// Whether who has these credentials could erase what is here. It is tried, on an object that is there for it
    /// alone (`probe/erasable`): it shows what holds for that one.
    ///
    /// # Errors
    /// [`DestinationError`] if it cannot be told.
    async fn erasable(&self) -> Result<Erasable, DestinationError>;
}

/// Takes objects away. Whoever stores and reads bundles has it not; a person who prunes has, with credentials of their own.
#[async_trait]
pub trait Prune: Send + Sync {
    /// Takes the object away. One that is not there is gone already.
    ///
    /// # Errors
    /// [`DestinationError`], such as [`DestinationError::Denied`] for who may only create and read.
    async fn remove(&self, name: &ObjectName) -> Result<(), DestinationError>;

    /// When the destination says that the object was made, by its own clock; none: there is no such object.
    ///
    /// # Errors
    /// [`DestinationError`].
    async fn made_at(&self, name: &ObjectName) -> Result<Option<SystemTime>, DestinationError>;
}

/// What became of [`Destination::create`]. Either way the bytes stand there and were read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// This call made the object, and was told so.
    Created,
    /// It was there, with equal bytes: made before, or by another, or by this call whose answer was lost.
    AlreadyThere,
}

/// Whether a writer could erase what is at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasable {
    /// Overwriting or deleting was done. A directory always is.
    Yes,
    /// Overwriting was done, and the destination says that it keeps the version before. The writer can hide an object;
    /// whether it may delete versions is not known.
    Versioned,
    /// Overwriting was refused, and deleting too.
    No,
}
