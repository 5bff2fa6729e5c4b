//! Keys and keyrings: names, states, limits of use, encrypt leases.

pub(crate) mod encrypt_lease;
pub(crate) mod key;
pub(crate) mod keyring;
pub(crate) mod names;
pub(crate) mod usage;
