//! Its tables, one file each.

pub(crate) mod key;
pub(crate) mod keyring;
