//! What the audit log can say: every action, declared once, with what its entries are about.

use std::fmt;

/// An action. Its name is in the log, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A person took an old bundle away.
    BackupPruned,
    /// Backups were proved by drills; the outcome is `in part` where some were not.
    BackupsDrilled,
    /// Somebody asked for keys to be backed up now.
    BackupsRequested,
    /// A certificate got its signature.
    CertificateSigned,
    /// A column is protected no more.
    ColumnReleased,
    /// The store follows a table or column that was renamed or has another type.
    ColumnRenamed,
    /// The store was made to say what the configuration does.
    ConfigurationApplied,
    /// Messages that are not to be sent again.
    DeadLetterDismissed,
    /// Messages that were given up are sent again.
    DeadLetterRetried,
    /// The store is an earlier one than a checkpoint knows: nothing is encrypted.
    DeploymentSuspended,
    /// Somebody looks at an incident.
    IncidentAcknowledged,
    /// A further report was added to an incident.
    IncidentNoted,
    /// An incident was opened.
    IncidentOpened,
    /// An incident is over, as a person said.
    IncidentResolved,
    /// A key is its keyring's primary from now on.
    KeyActivated,
    /// A new bundle of a key stands at a destination.
    KeyBackedUp,
    /// A key was reported compromised; the outcome is `held` where nothing was done and a person decides.
    KeyCompromised,
    /// A standby was made.
    KeyCreated,
    /// A key was brought back from its bundle.
    KeyRestored,
    /// A standby was retired unused, as its keyring has another algorithm now.
    KeyRetired,
    /// A process used a key.
    KeyUsed,
    /// A keyring was made.
    KeyringCreated,
    /// A master key was reported compromised.
    MasterKeyCompromised,
    /// A new master key was made.
    MasterKeyCreated,
    /// Its passphrase was set, replaced or taken away.
    MasterKeyPassphraseChanged,
    /// Stored keys were wrapped anew; the outcome is `in part` where some were not, `cut short` where it did not come to its end.
    MasterKeyRotated,
    /// Someone began to replace the master key.
    MasterKeyRotationStarted,
    /// Values that were written after their key was compromised are moved all the same.
    QuarantineReleased,
    /// Values in quarantine are to stay as they are.
    QuarantineResolved,
    /// A RECOVERY key was made and split into shares.
    RecoveryKeySplit,
    /// A request from outside was refused, or turned away unread.
    RequestRefused,
    /// A rotation was ended where it was.
    RotationCancelled,
    /// A rotation completed.
    RotationCompleted,
    /// A rotation failed; a person is needed.
    RotationFailed,
    /// A request joined the rotation under way.
    RotationJoined,
    /// A rotation is on hold.
    RotationPaused,
    /// Someone asked for a rotation.
    RotationRequested,
    /// A rotation goes on.
    RotationResumed,
    /// The failed batches of a rotation are done again.
    RotationRetried,
    /// A rotation started.
    RotationStarted,
    /// A source is another database from now on.
    SourceAccepted,
    /// A store that was lost was made again from bundles and a checkpoint.
    StoreRestored,
    /// A store that was rolled back was reconciled with the newest checkpoint.
    StoreRolledBack,
    /// A sweep completed.
    SweepCompleted,
    /// A sweep failed; a person is needed.
    SweepFailed,
    /// A sweep that was asked for is done by the rotation under way.
    SweepJoined,
    /// A sweep started.
    SweepStarted,
}

/// An action, its name, and for people: the subject of its entries, their details, and what it is.
type Row = (Action, &'static str, [&'static str; 3]);

const ROWS: [Row; 47] = [
    (
        Action::BackupPruned,
        "backup.pruned",
        [
            "the bundle",
            "`destination`",
            "A person took an old bundle away.",
        ],
    ),
    (
        Action::BackupsDrilled,
        "backups.drilled",
        [
            "`backups`",
            "`proved`: keys and destinations, `failed`: those that were not, each with its problem",
            "Backups were proved by drills; the outcome is `in part` where some were not.",
        ],
    ),
    (
        Action::BackupsRequested,
        "backups.requested",
        [
            "the key, or `every key`",
            "`keys`",
            "Somebody asked for keys to be backed up now.",
        ],
    ),
    (
        Action::CertificateSigned,
        "certificate.signed",
        [
            "the rotation",
            "`signed_by`: key and key id",
            "A certificate got its signature.",
        ],
    ),
    (
        Action::ColumnReleased,
        "column.released",
        [
            "the column",
            "`keyring`, `column_id`, `relation`, `gone`, `values`: what the census counted",
            "A column is protected no more.",
        ],
    ),
    (
        Action::ColumnRenamed,
        "column.renamed",
        [
            "the column as it was called",
            "`to`, `column_id`, `along`: columns that came with it, `relation`, `before`, `looked_at`, `opened`",
            "The store follows a table or column that was renamed or has another type.",
        ],
    ),
    (
        Action::ConfigurationApplied,
        "configuration.applied",
        [
            "`rekey.toml`",
            "`changes`",
            "The store was made to say what the configuration does.",
        ],
    ),
    (
        Action::DeadLetterDismissed,
        "dead-letter.dismissed",
        [
            "the letter, or how many",
            "`because`, `letters`",
            "Messages that are not to be sent again.",
        ],
    ),
    (
        Action::DeadLetterRetried,
        "dead-letter.retried",
        [
            "the letter, or how many",
            "`ids`",
            "Messages that were given up are sent again.",
        ],
    ),
    (
        Action::DeploymentSuspended,
        "deployment.suspended",
        [
            "the checkpoint, as in `store.rolled-back`",
            "`because`",
            "The store is an earlier one than a checkpoint knows: nothing is encrypted.",
        ],
    ),
    (
        Action::IncidentAcknowledged,
        "incident.acknowledged",
        ["the incident", "", "Somebody looks at an incident."],
    ),
    (
        Action::IncidentNoted,
        "incident.noted",
        [
            "the incident",
            "`reason`, `since`",
            "A further report was added to an incident.",
        ],
    ),
    (
        Action::IncidentOpened,
        "incident.opened",
        [
            "the incident",
            "`reason`, `since`, `key`",
            "An incident was opened.",
        ],
    ),
    (
        Action::IncidentResolved,
        "incident.resolved",
        [
            "the incident",
            "`because`",
            "An incident is over, as a person said.",
        ],
    ),
    (
        Action::KeyActivated,
        "key.activated",
        [
            "the key",
            "`key_id`, `algorithm`, `backup`, and the `rotation` that switched",
            "A key is its keyring's primary from now on.",
        ],
    ),
    (
        Action::KeyBackedUp,
        "key.backed-up",
        [
            "the key",
            "`key_id`, `destination`, `bundle`, `backup_key`, `recovery`: the fingerprint of the RECOVERY key",
            "A new bundle of a key stands at a destination.",
        ],
    ),
    (
        Action::KeyCompromised,
        "key.compromised",
        [
            "the key",
            "`key_id`, `incident`, `was`: its state, `response`, `rotation`",
            "A key was reported compromised; the outcome is `held` where nothing was done and a person decides.",
        ],
    ),
    (
        Action::KeyCreated,
        "key.created",
        [
            "the key",
            "`key_id`, `algorithm`, `backup`",
            "A standby was made.",
        ],
    ),
    (
        Action::KeyRestored,
        "key.restored",
        [
            "the key",
            "`key_id`, `destination`, `bundle`, `state`",
            "A key was brought back from its bundle.",
        ],
    ),
    (
        Action::KeyRetired,
        "key.retired",
        [
            "the key",
            "`algorithm`",
            "A standby was retired unused, as its keyring has another algorithm now.",
        ],
    ),
    (
        Action::KeyUsed,
        "key.used",
        [
            "the key",
            "`encrypted`, `decrypted`: how often, since the last such entry of the process",
            "A process used a key.",
        ],
    ),
    (
        Action::KeyringCreated,
        "keyring.created",
        [
            "the keyring",
            "`purpose`, `algorithm`, `policy`",
            "A keyring was made.",
        ],
    ),
    (
        Action::MasterKeyCompromised,
        "master-key.compromised",
        [
            "the master key",
            "`reason`, `since`, `exposes_until`: keys that were made by then may have been under it, `standbys` that are never used",
            "A master key was reported compromised.",
        ],
    ),
    (
        Action::MasterKeyCreated,
        "master-key.created",
        [
            "the master key",
            "`before`, `provider`",
            "A new master key was made.",
        ],
    ),
    (
        Action::MasterKeyPassphraseChanged,
        "master-key.passphrase-changed",
        [
            "the master key",
            "`sealed`: whether a passphrase seals its file now",
            "Its passphrase was set, replaced or taken away.",
        ],
    ),
    (
        Action::MasterKeyRotated,
        "master-key.rotated",
        [
            "the master key",
            "`rewrapped`, `failed`",
            "Stored keys were wrapped anew; the outcome is `in part` where some were not, `cut short` where it did not come to its end.",
        ],
    ),
    (
        Action::MasterKeyRotationStarted,
        "master-key.rotation-started",
        [
            "the master key",
            "`new_master_key`: whether one is to be made",
            "Someone began to replace the master key.",
        ],
    ),
    (
        Action::QuarantineReleased,
        "quarantine.released",
        [
            "the value, or how many",
            "`values`: id, place",
            "Values that were written after their key was compromised are moved all the same.",
        ],
    ),
    (
        Action::QuarantineResolved,
        "quarantine.resolved",
        [
            "the value, or how many",
            "`because`, `values`: id, place, reason",
            "Values in quarantine are to stay as they are.",
        ],
    ),
    (
        Action::RecoveryKeySplit,
        "recovery-key.split",
        [
            "the fingerprint",
            "`set`, `threshold`, `shares`",
            "A RECOVERY key was made and split into shares.",
        ],
    ),
    (
        Action::RequestRefused,
        "request.refused",
        [
            "the user at the broker, or `nobody`",
            "`reason`, `amqp_user`, `requests`: how many",
            "A request from outside was refused, or turned away unread.",
        ],
    ),
    (
        Action::RotationCancelled,
        "rotation.cancelled",
        [
            "the rotation",
            "`because`, `was`: its state",
            "A rotation was ended where it was.",
        ],
    ),
    (
        Action::RotationCompleted,
        "rotation.completed",
        [
            "the keyring",
            "`rotation`, `certificate`",
            "A rotation completed.",
        ],
    ),
    (
        Action::RotationFailed,
        "rotation.failed",
        [
            "the keyring",
            "`rotation`, `reason`",
            "A rotation failed; a person is needed.",
        ],
    ),
    (
        Action::RotationJoined,
        "rotation.joined",
        [
            "the keyring",
            "`rotation`, `reason`, `urgent`, `canary`",
            "A request joined the rotation under way.",
        ],
    ),
    (
        Action::RotationPaused,
        "rotation.paused",
        [
            "the rotation",
            "`because`, unless a person did it",
            "A rotation is on hold.",
        ],
    ),
    (
        Action::RotationRequested,
        "rotation.requested",
        [
            "the keyring",
            "`event`, `urgent`, `canary`; from outside also what was `asked`",
            "Someone asked for a rotation.",
        ],
    ),
    (
        Action::RotationResumed,
        "rotation.resumed",
        [
            "the rotation",
            "`unknown_keys` and what was `found`, where these were accepted",
            "A rotation goes on.",
        ],
    ),
    (
        Action::RotationRetried,
        "rotation.retried",
        [
            "the rotation",
            "none",
            "The failed batches of a rotation are done again.",
        ],
    ),
    (
        Action::RotationStarted,
        "rotation.started",
        [
            "the keyring",
            "`rotation`, `reason`, `urgent`, `canary`",
            "A rotation started.",
        ],
    ),
    (
        Action::SourceAccepted,
        "source.accepted",
        [
            "the source",
            "`before`, `now`: what its database is known by",
            "A source is another database from now on.",
        ],
    ),
    (
        Action::StoreRestored,
        "store.restored",
        [
            "the newest checkpoint, as in `store.rolled-back`; `nothing` where none was found",
            "`keys`, `with_shares`",
            "A store that was lost was made again from bundles and a checkpoint.",
        ],
    ),
    (
        Action::StoreRolledBack,
        "store.rolled-back",
        [
            "the newest checkpoint found: `checkpoint/`, its number, the entry it was made at, and its hash",
            "`keys`, `primaries`",
            "A store that was rolled back was reconciled with the newest checkpoint.",
        ],
    ),
    (
        Action::SweepCompleted,
        "sweep.completed",
        [
            "the keyring",
            "`rotation`, `certificate`",
            "A sweep completed.",
        ],
    ),
    (
        Action::SweepFailed,
        "sweep.failed",
        [
            "the keyring",
            "`rotation`, `reason`",
            "A sweep failed; a person is needed.",
        ],
    ),
    (
        Action::SweepJoined,
        "sweep.joined",
        [
            "the rotation that does it",
            "`rotation`, `keyring`, `outcome`, `columns`",
            "A sweep that was asked for is done by the rotation under way.",
        ],
    ),
    (
        Action::SweepStarted,
        "sweep.started",
        [
            "the keyring",
            "`rotation`, `keyring`, `because`, `outcome`, `columns`",
            "A sweep started.",
        ],
    ),
];

impl Action {
    /// Its name, such as `key.created`.
    pub fn name(self) -> &'static str {
        ROWS[self as usize].1
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, fs, path::Path};

    use super::*;

    #[test]
    fn each_action_stands_at_its_place_under_a_name_of_its_own() {
        for (at, (action, name, _)) in ROWS.iter().enumerate() {
            assert_eq!(*action as usize, at, "{name}");
            assert_eq!(action.to_string(), *name);
        }
        assert!(ROWS.windows(2).all(|two| two[0].1 < two[1].1));
    }

    /// The page is generated; `REKEY_BLESS=1` writes it.
    #[test]
    fn the_page_lists_every_action() {
        let mut page = String::from(
            "# Actions in the audit log\n\nGenerated from `crates/store/src/audit/actions.rs`. An entry has a time, a principal, an action, a subject and an\n\
             outcome in clear, and details that are encrypted. `rekey audit list` shows entries,\n\
             `rekey audit show` the details of one; the\n\
             [format](../format/README.md) says how entries are chained.\n\n\
             | action | what | subject | details |\n|---|---|---|---|\n",
        );
        for (_, name, [subject, details, what]) in ROWS {
            writeln!(page, "| `{name}` | {what} | {subject} | {details} |").unwrap();
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit/README.md");
        if std::env::var_os("REKEY_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &page).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            stored, page,
            "docs/audit/README.md is stale; run with REKEY_BLESS=1"
        );
    }
}
