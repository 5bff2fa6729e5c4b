//! What a certificate says: facts of one rotation, as `docs/format/certificate.md` defines them.

use chrono::{DateTime, Utc};
use rekey_domain::{
    Algorithm, KeyId, KeyName, KeyringName, Principal, Purpose, QuarantineReason, RotationKind,
    RotationReason,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The form, frozen: fields are only ever added.
pub const SCHEMA: &str = "rekey.certificate/v1";

/// A certificate. What programs before did not say is absent or empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`SCHEMA`].
    pub schema: String,
    /// The rotation.
    pub rotation: Uuid,
    /// Whether a key was replaced; absent where one was.
    #[serde(default, skip_serializing_if = "is_switch")]
    pub kind: RotationKind,
    /// The columns that a sweep was limited to, with what else of the keyring stands in their rows; all
    /// figures are of these. Absent: all that the keyring protects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The deployment.
    #[serde(default)]
    pub deployment: Option<Uuid>,
    /// The program that wrote it.
    #[serde(default)]
    pub written_by: Option<String>,
    /// The keyring.
    pub keyring: KeyringName,
    /// What its keys are for.
    #[serde(default)]
    pub purpose: Option<Purpose>,
    /// The key that was primary before; none: there was none, or it was a sweep.
    pub from: Option<KeyName>,
    /// The key that is primary since; of a sweep, that was and is.
    pub to: Option<KeyName>,
    /// Both, as far as there are two, in this order.
    #[serde(default)]
    pub keys: Vec<KeyFacts>,
    /// Why it was asked for.
    pub reason: RotationReason,
    /// Who asked.
    pub requested_by: Principal,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// When the new key became primary.
    pub switched_at: Option<DateTime<Utc>>,
    /// When the last encrypt lease under any key before `to` had ended, at the latest: no process began an
    /// encryption under one later.
    #[serde(default)]
    pub leases_ended_at: Option<DateTime<Utc>>,
    /// The moment of the count of all values before the first was moved; of several tables, of the first.
    #[serde(default)]
    pub counted_before_at: Option<DateTime<Utc>>,
    /// The moment of that count at the end; of several tables, of the first.
    #[serde(default)]
    pub counted_after_at: Option<DateTime<Utc>>,
    /// When the rotation completed.
    pub completed_at: DateTime<Utc>,
    /// What people did to the rotation meanwhile, from the audit log.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// The reports of compromised keys that it answers. One that was started for such a report counted nothing before
    /// the first value was moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<IncidentFacts>,
    /// What stood under keys before `to` when the report came, as far as the work tells; absent where no report was
    /// answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureFacts>,
    /// How often all ranges were gone over.
    pub passes: u32,
    /// Values moved.
    pub moved: u64,
    /// Values that the last pass read and opened at their place, under `to` or a later key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<u64>,
    /// Rows that the application changed at the same moment; moved later, or left to it.
    pub conflicts: u64,
    /// Values that could not be moved.
    pub quarantined: u64,
    /// Which.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// The values of each column by key, before.
    pub census_before: Vec<CensusLine>,
    /// The same at the end.
    pub census_after: Vec<CensusLine>,
    /// The backups of `to` that were proved: each bundle's last drill restored the key. Empty where none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupFacts>,
    /// Safeguards that were off or wider than the default: `backup`, `recovery`, `encrypt_lease`, `max_encryptions`;
    /// and the tables whose owner's code was trusted.
    pub gates_off: Vec<String>,
    /// The keyring's policy at the end.
    #[serde(default)]
    pub policy: Option<PolicyFacts>,
    /// The clauses that these facts support.
    #[serde(default)]
    pub supports: Vec<Support>,
    /// Who signed; absent from one that is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<SignedBy>,
}

fn is_switch(kind: &RotationKind) -> bool {
    *kind == RotationKind::Switch
}

/// A key of the rotation, as it was at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFacts {
    /// Its name.
    pub key: KeyName,
    /// Its id in ciphertext.
    pub key_id: KeyId,
    /// What it is for.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it became primary.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it ceased to be.
    pub deactivated_at: Option<DateTime<Utc>>,
    /// Encryptions counted over all processes; blocks that were lost count as used.
    pub used: u64,
}

/// What someone did to the rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What, as in the audit log: `rotation.paused`.
    pub action: String,
    /// Who.
    pub by: Principal,
    /// When.
    pub at: DateTime<Utc>,
    /// Its entry in the audit log.
    pub audit_entry: i64,
}

/// The report of a compromised key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentFacts {
    /// The incident.
    pub id: Uuid,
    /// The key.
    pub key: KeyName,
    /// Its id in ciphertext.
    pub key_id: KeyId,
    /// Who reported it first.
    pub reported_by: Principal,
    /// When.
    pub reported_at: DateTime<Utc>,
    /// Since when others know the key, as was said.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
}

/// Counts of work, as an emergency takes no census before it: a value that was written twice meanwhile counts twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureFacts {
    /// Values that this rotation moved until nobody could write under a reported key any more.
    pub moved: u64,
    /// Those that the rotations moved which answered the same reports before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_before: Option<u64>,
    /// Values that could not be moved, under whatever key.
    pub left: u64,
    /// Those of them that stand under a reported key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_under: Option<u64>,
}

/// How many values of a column were found so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusLine {
    /// The column, `source.table.column`.
    pub column: Option<String>,
    /// Where that was counted: table and column as they are called in the source, and what it knows them by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The key's name, its id where it is not of the keyring, or `not-ciphertext`.
    pub under: String,
    /// The key's id, where they are ciphertext.
    #[serde(default)]
    pub key_id: Option<KeyId>,
    /// How many.
    pub rows: u64,
}

/// The values that were left as they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// How many for each reason.
    pub by_reason: Vec<QuarantineCount>,
    /// Their ids in `quarantine`, the first thousand; never what they hold or which row it is.
    pub values: Vec<QuarantinedValue>,
    /// How many more there are.
    pub more: u64,
}

/// How many values are in quarantine for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineCount {
    /// The reason.
    pub reason: QuarantineReason,
    /// How many.
    pub values: u64,
}

/// A value in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedValue {
    /// Its id there.
    pub id: Uuid,
    /// The column.
    pub column: Option<String>,
    /// The reason.
    pub reason: QuarantineReason,
}

/// A backup of a key that was proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Where.
    pub destination: String,
    /// The bundle's name there, which has its SHA-256.
    pub bundle: String,
    /// When it was stored.
    pub stored_at: DateTime<Utc>,
    /// When a drill last restored the key from it and compared it with the key in use.
    pub proved_at: DateTime<Utc>,
    /// The fingerprint of the RECOVERY key that opens it too; none: nothing but the KMS leads to it.
    pub recovery: Option<String>,
}

/// The keyring's policy, durations as `rekey.toml` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// Whether keys must be backed up and proved before use.
    pub backup: String,
    /// How long a process may encrypt after it last heard from the store.
    pub encrypt_lease: String,
    /// How long after the switch clients may still have written under the old key.
    pub grace_period: String,
    /// How long a key may be primary.
    pub key_lifetime: String,
    /// Encryptions by applications after which the keyring rotates itself.
    pub max_encryptions: u64,
}

/// A clause, and the fact here that supports it. Whether the clause is met is an auditor's to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// The clause: `NIST SP 800-57 Part 1 Rev. 5, §5.3`.
    pub clause: String,
    /// What it is about.
    pub about: String,
    /// One sentence of facts.
    pub fact: String,
}

/// The key of the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBy {
    /// Its name.
    pub key: KeyName,
    /// Its id, the signature's `kid`.
    pub key_id: KeyId,
    /// When, by the store's clock.
    pub signed_at: DateTime<Utc>,
}

impl Certificate {
    /// The facts of the key that was primary before.
    pub fn from_key(&self) -> Option<&KeyFacts> {
        self.facts_of(self.from.as_ref())
    }

    /// The facts of the key that is primary since.
    pub fn to_key(&self) -> Option<&KeyFacts> {
        self.facts_of(self.to.as_ref())
    }

    fn facts_of(&self, name: Option<&KeyName>) -> Option<&KeyFacts> {
        self.keys.iter().find(|facts| Some(&facts.key) == name)
    }

    /// How many values a census found under a key.
    pub fn under(census: &[CensusLine], key: Option<&KeyName>) -> u64 {
        let name = key.map(ToString::to_string);
        let of_key = census
            .iter()
            .filter(|line| Some(&line.under) == name.as_ref());
        of_key.map(|line| line.rows).sum()
    }
}
