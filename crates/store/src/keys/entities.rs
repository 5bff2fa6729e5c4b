//! Tables of keys and keyrings, one file each.

pub(crate) mod key;
pub(crate) mod keyring;
