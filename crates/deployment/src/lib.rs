//! How a deployment is put together: its places, how a program of it starts and what it says of itself, the rights that it needs.

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
