//! Tables of incidents and alerts, one file each.

pub(crate) mod alert;
pub(crate) mod incident;
