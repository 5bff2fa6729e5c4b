//! What the configuration declares, and the store made to say the same.

pub(crate) mod apply;
pub(crate) mod desired;
pub(crate) mod init;
