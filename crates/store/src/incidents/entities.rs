//! Its tables, one file each.

pub(crate) mod alert;
pub(crate) mod incident;
