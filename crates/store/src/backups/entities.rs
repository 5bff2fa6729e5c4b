//! Tables of backups, one file each.

pub(crate) mod backup;
pub(crate) mod backup_request;
pub(crate) mod checkpoint;
pub(crate) mod deployment_backup;
pub(crate) mod destination;
pub(crate) mod drill;
pub(crate) mod recovery_key;
