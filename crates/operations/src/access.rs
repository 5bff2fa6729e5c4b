//! Who may do what, and the audit entry that each act leaves.

pub(crate) mod audited;
pub(crate) mod authorise;
pub mod rights;
