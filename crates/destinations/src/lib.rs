//! Where bundles and checkpoints are kept, behind one trait: a directory, S3, Azure.
//!
//! Objects are made once and neither changed nor deleted here. This crate knows bytes and names, not what they mean.

mod create;
mod destination;
mod directory;
mod environment;
mod error;
mod name;
#[cfg(feature = "services")]
mod objects;
mod open;
mod page;
mod url;

pub use destination::{Created, Destination, Erasable, LIMIT, MAX_LEN, Prune};
pub use directory::Directory;
pub use environment::Environment;
pub use error::{DestinationError, Doing, Found};
pub use name::{Folder, NotAnObjectName, ObjectName};
#[cfg(feature = "services")]
pub use objects::Objects;
pub use open::{open, open_to_prune, open_with};
pub use page::{PAGE, Page};
pub use url::{DestinationUrl, Keeper, NotADestinationUrl};
