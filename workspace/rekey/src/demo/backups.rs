//! The backups of the demo: its RECOVERY key, and what the report says of them.

use std::path::{Path, PathBuf};

use rekey_operations::BackupView;
use serde::Serialize;

use crate::app::App;

/// Of the RECOVERY key: so many shares make it again, of so many.
pub const SHARES: (u8, u8) = (3, 5);

/// The backups of the demo's keys.
#[derive(Debug, Serialize)]
pub struct Backups {
    /// Keys that a drill brought back.
    pub proved: usize,
    /// Keys that none did.
    pub unproved: usize,
    /// Where their bundles are.
    pub destination: String,
    /// Where the shares of the RECOVERY key are.
    pub shares: PathBuf,
}

impl Backups {
    /// As the views say.
    pub fn of(views: &[BackupView], app: &App, shares: &Path) -> Self {
        let is_proved = |view: &&BackupView| view.proved_at.is_some() && view.problem.is_none();
        let proved = views.iter().filter(is_proved).count();
        Self {
            proved,
            unproved: views.len() - proved,
            destination: app.places.file("backups").display().to_string(),
            shares: shares.to_owned(),
        }
    }
}
