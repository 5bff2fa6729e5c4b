//! An alert: a state that people are told of until it has passed.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoEnumIterator};

/// What state it is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    EnumIter,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", parse_err_ty = String, parse_err_fn = no_kind)]
pub enum AlertKind {
    /// Someone reported a key that does not exist.
    UnknownKeyReported,
    /// Values stand under a key that was never primary: forged.
    NeverActive,
    /// Values stand under a compromised key that were not there when its rows were moved: forged, or stored late.
    WrittenAfterCompromise,
    /// A key's backup is missing, stale, bad or out of reach.
    BackupFailed,
    /// Bundles are sealed to no RECOVERY key: if the KMS is lost, nothing opens them.
    NoRecoveryKey,
    /// A key became primary without the proof that its keyring asks for.
    BackupWaived,
    /// A report of a master key was cut short: keys that it exposes still encrypt.
    MasterReportUnfinished,
    /// The store is an earlier one than a checkpoint knows, or its record is another: nothing is encrypted until a person
    /// has reconciled it.
    StoreRolledBack,
    /// No value is left under a compromised key.
    KeyMayBeDestroyed,
    /// A primary key expires, and no schedule rotates it before.
    Expiring,
    /// A primary key is near the number of encryptions that it may make.
    UsageNearLimit,
    /// A keyring has no primary key: nothing can be encrypted.
    NoPrimary,
    /// A keyring has no standby: a compromised key could not be replaced at once.
    NoStandby,
    /// A rotation failed.
    RotationFailed,
    /// A rotation waits for a person, or for what should have ended long ago.
    RotationStalled,
    /// Values could not be moved.
    QuarantineNotEmpty,
    /// Values were found under keys before the primary one though no rotation is under way, or under keys that nobody
    /// knows.
    Stragglers,
    /// Values may stand under a compromised key, and no rotation moves them.
    LeftUnderCompromised,
    /// A certificate waits for its signature.
    CertificateUnsigned,
    /// Messages wait for a worker that does not come.
    OutboxOld,
    /// Messages were given up.
    DeadLetters,
    /// A worker gives no sign of life.
    WorkerSilent,
    /// The KMS does not answer.
    KmsAway,
    /// A source does not answer.
    SourceAway,
    /// A channel does not take what it is told.
    ChannelDead,
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

impl Severity {
    /// Each of them, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::High, Self::Critical];
}

fn no_severity(text: &str) -> String {
    format!("severity {text:?} is not one of ours")
}

impl AlertKind {
    /// Each of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// How soon a person is needed, unless the fact says more.
    pub fn severity(self) -> Severity {
        match self {
            Self::NeverActive
            | Self::WrittenAfterCompromise
            | Self::LeftUnderCompromised
            | Self::MasterReportUnfinished
            | Self::StoreRolledBack
            | Self::NoPrimary
            | Self::KmsAway
            | Self::ChannelDead => Severity::Critical,
            Self::UnknownKeyReported
            | Self::BackupFailed
            | Self::NoRecoveryKey
            | Self::BackupWaived
            | Self::Expiring
            | Self::UsageNearLimit
            | Self::NoStandby
            | Self::RotationFailed
            | Self::RotationStalled
            | Self::QuarantineNotEmpty
            | Self::Stragglers
            | Self::CertificateUnsigned
            | Self::OutboxOld
            | Self::DeadLetters
            | Self::WorkerSilent
            | Self::SourceAway => Severity::High,
            Self::KeyMayBeDestroyed => Severity::Low,
        }
    }

    /// How severe an occasion was, as far as a delivery tells: what presses was CRITICAL.
    pub fn severity_when(self, pressed: bool) -> Severity {
        match pressed {
            true => Severity::Critical,
            false => self.severity().min(Severity::High),
        }
    }

    /// How soon a person can be needed at most: an expired key and an emergency that failed press.
    pub fn most_severe(self) -> Severity {
        match self {
            Self::Expiring | Self::RotationFailed => Severity::Critical,
            other => other.severity(),
        }
    }
}
