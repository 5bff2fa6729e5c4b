//! `[monitoring]`: what people are warned of, and when; how often keys are backed up and backups proved.

use std::time::Duration;

use super::{SecretUrl, section::Section};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What people are warned of, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringConfig {
    /// How long before a key expires people are told.
    pub expiration_warning: Duration,
    /// How often keys are backed up.
    pub backup_every: Duration,
    /// How often a backup is proved.
    pub drill_every: Duration,
    /// What is asked for each minute while all is well.
    pub heartbeat_url: Option<SecretUrl>,
    /// Whether it may be on this machine or in a private network.
    pub heartbeat_allow_private: bool,
    /// What stands before the kind in the link to what helps.
    pub runbooks: Option<String>,
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            expiration_warning: 7 * 24 * HOUR,
            backup_every: 24 * HOUR,
            drill_every: 12 * HOUR,
            heartbeat_url: None,
            heartbeat_allow_private: false,
            runbooks: None,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> MonitoringConfig {
    let default = MonitoringConfig::default();
    let second = Duration::from_secs(1);
    let warning = section.duration("expiration_warning", second);
    let backup = section.duration("backup_every", second);
    let drill = section.duration("drill_every", second);
    let heartbeat = section.text("heartbeat_url").map(SecretUrl::from);
    let private = section.flag("heartbeat_allow_private");
    let runbooks = section.text("runbooks");
    if runbooks.as_ref().is_some_and(|url| !is_link(url)) {
        section.wrong(
            "runbooks",
            "expected the beginning of a link, such as https://wiki.clinic.example/rekey#",
        );
    }
    section.end();
    MonitoringConfig {
        expiration_warning: warning.unwrap_or(default.expiration_warning),
        backup_every: backup.unwrap_or(default.backup_every),
        drill_every: drill.unwrap_or(default.drill_every),
        heartbeat_url: heartbeat,
        heartbeat_allow_private: private.unwrap_or(false),
        runbooks,
    }
}

/// It stands in messages as it is.
fn is_link(url: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"<>\"`|\\".contains(c);
    url.starts_with("https://") && url.len() <= 500 && url.chars().all(plain)
}
