//! An alert: a state that people are told of until it has passed.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// What state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", parse_err_ty = String, parse_err_fn = no_kind)]
pub enum AlertKind {
    /// Someone reported a key that does not exist.
    UnknownKeyReported,
    /// Values stand under a key that was never primary: forged.
    NeverActive,
    /// Values stand under a compromised key that were not there when its rows were moved: forged, or stored late.
    WrittenAfterCompromise,
    /// A key became primary without the proof that its keyring asks for.
    BackupWaived,
    /// No value is left under a compromised key.
    KeyMayBeDestroyed,
}

fn no_kind(text: &str) -> String {
    format!("kind of alert {text:?} is not one of ours")
}

/// How soon a person is needed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, EnumString,
)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = no_severity)]
pub enum Severity {
    /// When there is time.
    Low,
    /// Today.
    High,
    /// Now.
    Critical,
}

fn no_severity(text: &str) -> String {
    format!("severity {text:?} is not one of ours")
}

impl AlertKind {
    /// How soon a person is needed.
    pub fn severity(self) -> Severity {
        match self {
            Self::NeverActive | Self::WrittenAfterCompromise => Severity::Critical,
            Self::UnknownKeyReported | Self::BackupWaived => Severity::High,
            Self::KeyMayBeDestroyed => Severity::Low,
        }
    }
}
