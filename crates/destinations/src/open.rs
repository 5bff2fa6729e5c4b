//! From a URL to what is there.

use crate::{
    Destination, DestinationError, DestinationUrl, Directory, Environment, Prune, url::Parsed,
};

/// Sets the destination up, with credentials of the process's environment. Asks nobody yet.
///
/// # Errors
/// As [`open_with`].
pub fn open(url: &DestinationUrl) -> Result<Box<dyn Destination>, DestinationError> {
    open_with(url, Environment::of_process())
}

/// The same in another environment.
///
/// # Errors
/// [`DestinationError::Configuration`] where a region, an account or a service that was not built in is missing.
pub fn open_with(
    url: &DestinationUrl,
    environment: Environment<'_>,
) -> Result<Box<dyn Destination>, DestinationError> {
    match url.parsed() {
        Parsed::Directory(path) => Ok(Box::new(Directory::new(path))),
        Parsed::Objects(at) => Ok(Box::new(objects(url, at, environment)?)),
    }
}

/// Sets it up for a person who takes objects away, with credentials of their environment. Asks nobody yet.
///
/// # Errors
/// As [`open_with`].
pub fn open_to_prune(
    url: &DestinationUrl,
    environment: Environment<'_>,
) -> Result<Box<dyn Prune>, DestinationError> {
    match url.parsed() {
        Parsed::Directory(path) => Ok(Box::new(Directory::new(path))),
        Parsed::Objects(at) => Ok(Box::new(objects(url, at, environment)?)),
    }
}

#[cfg(feature = "services")]
fn objects(
    url: &DestinationUrl,
    at: &crate::url::Objects,
    environment: Environment<'_>,
) -> Result<crate::Objects, DestinationError> {
    crate::Objects::new(url.to_string(), at, environment)
}

#[cfg(not(feature = "services"))]
fn objects(
    url: &DestinationUrl,
    at: &crate::url::Objects,
    _: Environment<'_>,
) -> Result<Directory, DestinationError> {
    let place = url.to_string();
    let problem = match at.service {
        crate::url::Service::S3 => {
            "this program was built without S3; expected one that was built with it, as images and releases are: cargo build --package rekey --features services"
        }
        crate::url::Service::Azure => {
            "this program was built without Azure; expected one that was built with it, as images and releases are: cargo build --package rekey --features services"
        }
    };
    Err(DestinationError::Configuration { place, problem })
}
