//! How a deployment is put together: its places, how its programs start and report on themselves, and the rights that
//! they need.

mod background;
mod kms;
mod places;
mod probe;
pub mod program;
mod rights;

pub use background::{background, follow_and_report};
pub use places::{Places, sqlite_url};
pub use probe::ProcessProbe;
pub use rights::{RabbitMqRights, Rights, SourceRights, rights, rights_together};
