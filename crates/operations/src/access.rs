//! Who may do what, and that it is written down.

pub(crate) mod audited;
pub(crate) mod authorise;
pub mod rights;
