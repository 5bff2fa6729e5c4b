//! Services from programs installed on this machine, each with data and ports of its own.

mod azurite;
mod moto;
mod pooler;
mod postgres;
mod rabbitmq;

use std::path::{Path, PathBuf};

pub(crate) use azurite::Azure;
pub(crate) use moto::Kms;
pub(crate) use pooler::Pooler;
pub(crate) use postgres::Postgres;
pub(crate) use rabbitmq::RabbitMq;

use crate::apt;

/// What `find` finds, installing `packages` where it finds nothing.
fn find_or_install<T>(packages: &[&str], find: impl Fn() -> Option<T>) -> Result<T, String> {
    if let Some(found) = find() {
        return Ok(found);
    }
    apt::install(packages)?;
    find().ok_or_else(|| format!("{} is installed but not found", packages.join(" ")))
}

/// A program on the path.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| is_file(place))
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// A directory of the service's own, gone with it.
fn directory() -> Result<tempfile::TempDir, String> {
    let made = tempfile::Builder::new().prefix("rekey-test-").tempdir();
    made.map_err(|error| format!("no temporary directory: {error}"))
}
