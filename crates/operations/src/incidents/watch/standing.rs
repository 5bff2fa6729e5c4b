//! A state that people are told of.

use std::time::Duration;

use rekey_domain::{AlertKind, Severity};
use uuid::Uuid;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A state that stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) kind: AlertKind,
    pub(super) severity: Severity,
    pub(super) subject: String,
    pub(super) incident: Option<Uuid>,
    pub(super) figure: u64,
    /// It is told once it has stood for so long.
    pub(super) settles: Duration,
}

impl Standing {
    pub(super) fn new(kind: AlertKind, subject: impl ToString) -> Self {
        Self {
            kind,
            severity: kind.severity(),
            subject: subject.to_string(),
            incident: None,
            figure: 0,
            settles: Duration::ZERO,
        }
    }

    pub(super) fn counting(self, figure: u64) -> Self {
        Self { figure, ..self }
    }

    pub(super) fn after(self, settles: Duration) -> Self {
        Self { settles, ..self }
    }

    pub(super) fn pressing(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}
