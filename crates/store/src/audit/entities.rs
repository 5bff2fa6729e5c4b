//! Tables of the audit log, one file each.

pub(crate) mod audit_detail;
pub(crate) mod audit_entry;
pub(crate) mod audit_head;
