//! The configuration, and making the store follow it.

pub(crate) mod apply;
pub(crate) mod desired;
pub(crate) mod init;
