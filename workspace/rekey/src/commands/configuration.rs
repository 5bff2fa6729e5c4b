//! `rekey init` and `rekey apply`: the store made to say what the configuration does.

pub mod apply;
pub mod init;
