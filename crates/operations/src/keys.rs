//! Keys: made, leased to encrypt, counted, and the master key above them.

pub(crate) mod leases;
pub(crate) mod making;
pub(crate) mod master;
pub(crate) mod metered_kms;
pub(crate) mod named;
pub(crate) mod uses;
pub(crate) mod views;
