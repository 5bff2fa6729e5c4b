//! Certificates: what a completed rotation is evidence for, signed and verified.

pub mod clauses;
pub mod content;
mod published;
mod sign;
pub mod verify;
mod view;

pub(crate) use published::key_set;
pub use published::published_keys;
pub(crate) use sign::signer;
pub use sign::{SignedCertificate, sign_certificate};
pub(crate) use view::shown;
pub use view::{CertificateView, Signature, certificate};

#[cfg(test)]
mod tests;
#[cfg(test)]
use tests::example;
