//! Tables of keys and keyrings, one file each.

pub(crate) mod key;
pub(crate) mod keyring;
pub(crate) mod reported_master_key;
