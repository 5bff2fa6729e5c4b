//! A keyring's purpose, algorithm and policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::Timing;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the keys of a keyring are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = no_purpose)]
pub enum Purpose {
    /// Data encryption: protected health information.
    Phi,
    /// Data encryption: the details of the audit log.
    Audit,
    /// Key encryption: bundles of backed-up keys.
    Backup,
    /// Ed25519 seeds: certificates and audit checkpoints.
    Signing,
}

fn no_purpose(text: &str) -> String {
    format!("purpose {text:?}: expected PHI, AUDIT, BACKUP or SIGNING")
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Phi, Self::Audit, Self::Backup, Self::Signing];

    /// The algorithm of its keys, unless the keyring says otherwise.
    pub fn default_algorithm(self) -> Algorithm {
        match self {
            Self::Signing => Algorithm::Ed25519,
            Self::Phi | Self::Audit | Self::Backup => Algorithm::Aes256Gcm,
        }
    }

    /// The times a rotation of such a keyring waits for. Nothing is encrypted under a signing key, so
    /// no row and no client is waited for: its rotation is the switch.
    pub fn timing(self, policy: &KeyringPolicy) -> Timing {
        match self {
            Self::Signing => Timing {
                keyset_max_age: Duration::ZERO,
                grace_period: Duration::ZERO,
                ..policy.timing
            },
            Self::Phi | Self::Audit | Self::Backup => policy.timing,
        }
    }
}

/// How a key encrypts; fixed when the key is made. A keyring's algorithm is that of the keys it makes from now on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, Display, EnumString,
)]
#[strum(parse_err_ty = String, parse_err_fn = no_algorithm)]
pub enum Algorithm {
    /// AES-256-GCM, random 96-bit nonce, 128-bit tag, in Tink's wire format.
    #[default]
    #[serde(rename = "AES-256-GCM")]
    #[strum(serialize = "AES-256-GCM")]
    Aes256Gcm,
    /// AES-256-CBC with HMAC-SHA-512, RFC 7518 `A256CBC-HS512`: for what must interoperate.
    #[serde(rename = "AES-256-CBC")]
    #[strum(serialize = "AES-256-CBC")]
    Aes256Cbc,
    /// Ed25519 (RFC 8032): signs, and never encrypts. The key material is the seed.
    Ed25519,
}

fn no_algorithm(text: &str) -> String {
    format!("algorithm {text:?}: expected AES-256-GCM or AES-256-CBC, or Ed25519 to sign")
}

impl Algorithm {
    /// Every algorithm that encrypts.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::Aes256Cbc];
}

/// Whether a key must be backed up and its backup proved before it may encrypt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupPolicy {
    /// No key becomes primary without a proved backup.
    #[default]
    Required,
    /// Keys are used without one; said at start, in the audit log and on the certificate.
    Off,
}

/// What becomes of a primary key that is reported compromised while there is no standby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCompromise {
    /// Nothing is encrypted until there is one.
    #[default]
    Stop,
    /// It encrypts until there is one.
    StopOnceReplaced,
}

/// How a keyring's keys live: what `rekey.toml` says of it, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyringPolicy {
    /// Cron line of scheduled rotations; none: only people, expiry and usage start one.
    pub rotate: Option<String>,
    /// IANA time zone the cron line is read in.
    pub time_zone: String,
    /// The times a rotation waits for.
    pub timing: Timing,
    /// Batches of one rotation in flight at once.
    pub concurrency: u32,
    /// Rows in one batch, about.
    pub batch_rows: u32,
    /// Attempts after the first before a batch is given up.
    pub retry_attempts: u32,
    /// How long a key may be primary before it expires and is rotated.
    pub key_lifetime: Duration,
    /// How long a process may encrypt after it last heard from the store.
    pub encrypt_lease: Duration,
    /// Encryptions by applications after which the keyring rotates itself.
    pub max_encryptions: u64,
    /// Whether keys must be backed up before use.
    pub backup: BackupPolicy,
    /// How often its values are looked at for stragglers; none: only a person has it done.
    #[serde(default = "daily")]
    pub straggler_look: Option<Duration>,
    /// What becomes of a compromised primary key without a standby.
    #[serde(default)]
    pub on_compromise: OnCompromise,
    /// Batches in flight at once of a rotation for a compromised key.
    #[serde(default = "sixteen")]
    pub emergency_concurrency: u32,
}

impl KeyringPolicy {
    /// Batches of a rotation in flight at once.
    pub fn concurrency_of(&self, emergency: bool) -> u32 {
        match emergency {
            true => self.emergency_concurrency,
            false => self.concurrency,
        }
    }
}

fn sixteen() -> u32 {
    16
}

/// Also the value of policies stored before this setting existed.
fn daily() -> Option<Duration> {
    Some(DAY)
}

impl Default for KeyringPolicy {
    fn default() -> Self {
        Self {
            rotate: None,
            time_zone: "UTC".to_owned(),
            timing: Timing::default(),
            concurrency: 5,
            batch_rows: 5_000,
            retry_attempts: 3,
            key_lifetime: 90 * DAY,
            encrypt_lease: Duration::from_secs(5 * 60),
            max_encryptions: 1 << 31,
            backup: BackupPolicy::Off,
            straggler_look: daily(),
            on_compromise: OnCompromise::default(),
            emergency_concurrency: sixteen(),
        }
    }
}
