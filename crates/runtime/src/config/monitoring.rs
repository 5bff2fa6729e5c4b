//! `[monitoring]`: read and checked; what it asks for is built later.

use std::time::Duration;

use super::section::Section;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What people are warned of, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringConfig {
    /// How long before a key expires people are told.
    pub expiration_warning: Duration,
    /// How often keys are backed up; not built yet.
    pub backup_every: Duration,
    /// How often a backup is proved; not built yet.
    pub drill_every: Duration,
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            expiration_warning: 7 * 24 * HOUR,
            backup_every: 24 * HOUR,
            drill_every: 12 * HOUR,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> MonitoringConfig {
    let default = MonitoringConfig::default();
    let mut every = |name, why| {
        let found = section.duration(name, Duration::from_secs(1));
        if found.is_some() {
            section.ignore(name, why);
        }
        found
    };
    let warning = every(
        "expiration_warning",
        "has no effect yet: alerts are not built",
    );
    let backup = every("backup_every", "has no effect yet: backups are not built");
    let drill = every("drill_every", "has no effect yet: backups are not built");
    section.end();
    MonitoringConfig {
        expiration_warning: warning.unwrap_or(default.expiration_warning),
        backup_every: backup.unwrap_or(default.backup_every),
        drill_every: drill.unwrap_or(default.drill_every),
    }
}
