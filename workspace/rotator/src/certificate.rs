//! The certificate of a completed rotation: who, when, why, census before and after, what was off.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rekey_domain::{
    BackupPolicy, Found, KeyName, KeyringPolicy, Principal, PrincipalKind, QuarantineReason,
    format_duration,
};
use rekey_operations::{
    OperationError,
    certificates::{
        clauses::supports,
        content::{
            Act, BackupFacts, CensusLine, Certificate, ExposureFacts, IncidentFacts, KeyFacts,
            PolicyFacts, Quarantine, QuarantineCount, QuarantinedValue, SCHEMA,
        },
    },
};
use rekey_store::{
    ConnectionTrait, audit,
    backups::{
        bundles::{self, Backup},
        destinations, drills,
    },
    batches,
    census::{self, Counted},
    columns::Protected,
    incidents::{self, Incident},
    keyrings::{self, Keyring},
    keys::{self, Key},
    progress, quarantine,
    rotations::{self, Rotation},
    sweeps,
};

/// Values in quarantine that a certificate lists; of more it says how many.
const LISTED: u64 = 1_000;

/// Writes the certificate. Figures come from the store, counts of values from a census only.
pub async fn write(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    keyring: &Keyring,
    now: DateTime<Utc>,
) -> Result<Certificate, OperationError> {
    let keys = keys::of_keyring(db, keyring.id).await?;
    let columns = sweeps::columns_of(db, rotation).await?;
    let before = census::of_pass(db, rotation.id, census::BEFORE).await?;
    let after = census::of_pass(db, rotation.id, rotation.pass).await?;
    let tally = progress::of(db, rotation).await?.tally;
    let mut quarantined = 0;
    for column in &columns {
        quarantined += quarantine::of_pass(db, rotation, column.id).await?;
    }
    let [from, to] = [rotation.previous_key_id, rotation.target_key_id]
        .map(|id| keys.iter().find(|key| Some(key.id) == id));
    let policy = &keyring.policy;
    let (backups, waived) = match to {
        Some(to) => (backups_of(db, to).await?, was_waived(db, to).await?),
        None => (Vec::new(), false),
    };
    let mut certificate = Certificate {
        schema: SCHEMA.to_owned(),
        rotation: rotation.id,
        kind: rotation.kind,
        columns: match &rotation.sweep_columns {
            Some(swept) => swept.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        },
        deployment: Some(keyrings::deployment(db).await?),
        written_by: Some(format!("rekey-rotator {}", env!("CARGO_PKG_VERSION"))),
        keyring: keyring.name.clone(),
        purpose: Some(keyring.purpose),
        from: from.map(|key| key.name(keyring)),
        to: to.map(|key| key.name(keyring)),
        keys: [from, to]
            .into_iter()
            .flatten()
            .map(|key| facts(key, keyring))
            .collect(),
        reason: rotation.reason,
        requested_by: rotation.principal.clone(),
        requested_at: rotation.requested_at,
        switched_at: rotation.switched_at,
        counted_before_at: before.iter().map(|count| count.taken_at).min(),
        counted_after_at: after.iter().map(|count| count.taken_at).min(),
        leases_ended_at: keys::leases::known_last_end(&keys),
        completed_at: now,
        acts: acts(db, rotation).await?,
        incidents: reported(db, rotation, keyring, &keys).await?,
        exposure: exposure(db, rotation, &columns, quarantined).await?,
        passes: rotation.passes(),
        moved: tally.moved,
        opened: opened(db, rotation, &columns).await?,
        conflicts: tally.conflicts,
        quarantined,
        quarantine: left(db, rotation, &columns).await?,
        census_before: listed(&before, &columns, &keys, keyring),
        census_after: listed(&after, &columns, &keys, keyring),
        gates_off: gates_off(policy, &columns, &backups, waived),
        backups,
        policy: Some(policy_facts(policy)),
        supports: Vec::new(),
        signed_by: None,
    };
    certificate.supports = supports(&certificate);
    Ok(certificate)
}

/// Whether the key became primary before any drill had brought it back, as in an emergency.
async fn was_waived(db: &impl ConnectionTrait, key: &Key) -> Result<bool, OperationError> {
    let Some(activated_at) = key.activated_at else {
        return Ok(false);
    };
    let first = drills::first_proof(db, key.id).await?;
    Ok(first.is_none_or(|first| first > activated_at))
}

/// The backups of a key that its last drills proved.
async fn backups_of(
    db: &impl ConnectionTrait,
    key: &Key,
) -> Result<Vec<BackupFacts>, OperationError> {
    let bundles = bundles::of_key(db, key.id).await?;
    let drills = drills::of_key(db, key.id).await?;
    let mut proved = Vec::new();
    for destination in destinations::all(db).await? {
        let name = &destination.name;
        let last = drills.iter().find(|drill| drill.destination == *name);
        let Some(last) = last.filter(|last| last.problem.is_none()) else {
            continue;
        };
        let is_it = |bundle: &&Backup| {
            bundle.destination == *name && Some(&bundle.name) == last.bundle.as_ref()
        };
        proved.extend(bundles.iter().find(is_it).map(|bundle| BackupFacts {
            destination: name.to_string(),
            bundle: bundle.name.clone(),
            stored_at: bundle.stored_at,
            proved_at: last.last_at,
            recovery: bundle.recovery.clone(),
        }));
    }
    Ok(proved)
}

/// Values that opened in what the pass read. A part that was written anew was read twice, and counts once.
async fn opened(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    columns: &[Protected],
) -> Result<Option<u64>, OperationError> {
    let mut tables: Vec<_> = columns.iter().map(|column| column.table.id).collect();
    tables.sort_unstable();
    tables.dedup();
    let mut opened = 0;
    for table in tables {
        let covered = batches::covered(db, rotation, table).await?;
        opened += covered.iter().map(|one| one.opened).sum::<u64>();
    }
    Ok((!columns.is_empty()).then_some(opened))
}

fn facts(key: &Key, keyring: &Keyring) -> KeyFacts {
    KeyFacts {
        key: key.name(keyring),
        key_id: key.id,
        algorithm: key.algorithm,
        created_at: key.created_at,
        activated_at: key.activated_at,
        deactivated_at: key.deactivated_at,
        used: key.used,
    }
}

/// The reports that the rotation answers.
async fn reported(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    keyring: &Keyring,
    keys: &[Key],
) -> Result<Vec<IncidentFacts>, OperationError> {
    let incidents = incidents::of_rotation(db, rotation.id).await?;
    let facts = |incident: Incident| {
        let key = keys.iter().find(|key| key.id == incident.key_id)?;
        Some(IncidentFacts {
            id: incident.id,
            key: key.name(keyring),
            key_id: incident.key_id,
            reported_by: incident.reported_by,
            reported_at: incident.opened_at,
            since: incident.since,
        })
    };
    Ok(incidents.into_iter().filter_map(facts).collect())
}

/// Of a rotation that answers a report.
async fn exposure(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    columns: &[Protected],
    left: u64,
) -> Result<Option<ExposureFacts>, OperationError> {
    // What a key protects otherwise, as bundles, is no value that moved.
    if !rotation.is_emergency() || columns.is_empty() {
        return Ok(None);
    }
    let incidents = incidents::of_rotation(db, rotation.id).await?;
    let reported: Vec<_> = incidents.iter().map(|incident| incident.key_id).collect();
    Ok(Some(ExposureFacts {
        moved: progress::moved_in_time(db, rotation).await?,
        moved_before: Some(moved_before(db, rotation, &incidents).await?),
        left,
        left_under: Some(quarantine::left_under(db, rotation, &reported).await?),
    }))
}

/// What rotations moved that answered the same reports before, as where one was cancelled.
async fn moved_before(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    incidents: &[Incident],
) -> Result<u64, OperationError> {
    let mut earlier = rotations::of_keyring(db, rotation.keyring_id).await?;
    earlier.retain(|one| {
        let mut ids = incidents.iter().map(|incident| incident.id);
        one.id < rotation.id && ids.any(|id| one.incident_id == Some(id))
    });
    let mut moved = 0;
    for one in &earlier {
        moved += progress::moved_in_time(db, one).await?;
    }
    Ok(moved)
}

/// What was done to the rotation by hand, as the audit log has it.
async fn acts(db: &impl ConnectionTrait, rotation: &Rotation) -> Result<Vec<Act>, OperationError> {
    let subject = rotation.id.to_string();
    let mut entries = audit::of_subject(db, &subject).await?;
    entries.retain(|entry| is_by_hand(entry.principal()));
    let act = |entry: audit::AuditEntry| Act {
        by: entry.principal().clone(),
        action: entry.action,
        at: entry.time,
        audit_entry: entry.sequence,
    };
    Ok(entries.into_iter().map(act).collect())
}

/// What workers and schedules do by themselves is no act of anybody.
fn is_by_hand(who: &Principal) -> bool {
    match who.kind {
        PrincipalKind::Os | PrincipalKind::Amqp | PrincipalKind::App => true,
        PrincipalKind::Worker | PrincipalKind::Schedule => false,
    }
}

async fn left(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    columns: &[Protected],
) -> Result<Quarantine, OperationError> {
    let mut by_reason = Vec::new();
    for reason in QuarantineReason::ALL {
        let values = quarantine::left_for(db, rotation, reason).await?;
        if values > 0 {
            by_reason.push(QuarantineCount { reason, values });
        }
    }
    let values = quarantine::left_by(db, rotation, LISTED).await?;
    let value = |value: quarantine::Quarantined| QuarantinedValue {
        id: value.id,
        column: column_name(columns, value.column_id),
        reason: value.reason(),
    };
    let values: Vec<_> = values.into_iter().map(value).collect();
    let all: u64 = by_reason.iter().map(|count| count.values).sum();
    Ok(Quarantine {
        by_reason,
        more: all.saturating_sub(values.len() as u64),
        values,
    })
}

fn listed(
    counted: &[Counted],
    columns: &[Protected],
    keys: &[Key],
    keyring: &Keyring,
) -> Vec<CensusLine> {
    let name = |id| -> Option<KeyName> {
        let ours = keys.iter().find(|key| key.id == id);
        ours.map(|key| key.name(keyring))
    };
    let line = |count: &Counted| {
        let (under, key_id) = match count.found() {
            Found::NotCiphertext => ("not-ciphertext".to_owned(), None),
            Found::Empty => ("empty".to_owned(), None),
            Found::Unreadable => ("unreadable".to_owned(), None),
            Found::Key(id) => {
                let name = name(id).map(|name| name.to_string());
                (name.unwrap_or_else(|| id.to_string()), Some(id))
            }
        };
        CensusLine {
            column: column_name(columns, count.column_id),
            place: count.place.clone(),
            under,
            key_id,
            rows: count.rows(),
        }
    };
    // A column without values was counted too, and says so in one line.
    let is_said = |count: &&Counted| {
        let mut of_column = counted
            .iter()
            .filter(|one| one.column_id == count.column_id);
        count.rows() > 0 || of_column.all(|one| one.rows() == 0)
    };
    counted.iter().filter(is_said).map(line).collect()
}

fn column_name(columns: &[Protected], id: uuid::Uuid) -> Option<String> {
    let column = columns.iter().find(|column| column.id == id);
    column.map(|column| column.spec.name.to_string())
}

/// Safeguards that are off, or wider than the default.
fn gates_off(
    policy: &KeyringPolicy,
    columns: &[Protected],
    backups: &[BackupFacts],
    waived: bool,
) -> Vec<String> {
    let is_required = policy.backup == BackupPolicy::Required;
    let recovers = backups.iter().any(|backup| backup.recovery.is_some());
    let default = KeyringPolicy::default();
    let gates = [
        ("backup", !is_required || waived),
        ("recovery", is_required && !recovers),
        (
            "encrypt_lease",
            policy.encrypt_lease > default.encrypt_lease,
        ),
        ("key_lifetime", policy.key_lifetime > default.key_lifetime),
        (
            "max_encryptions",
            policy.max_encryptions > default.max_encryptions,
        ),
    ];
    let off = gates.into_iter().filter(|(_, off)| *off);
    let off = off.map(|(gate, _)| gate.to_owned());
    off.chain(code_of_tables(columns)).collect()
}

/// What we saw may depend on code of a table's owner, if that may run in our sessions.
fn code_of_tables(columns: &[Protected]) -> BTreeSet<String> {
    let trusted = columns.iter().filter(|column| column.table.trusts_code());
    let name = |column: &Protected| {
        let (source, table) = (&column.source.name, &column.table.name);
        format!("code of the owner of {source}.{table} is trusted")
    };
    trusted.map(name).collect()
}

fn policy_facts(policy: &KeyringPolicy) -> PolicyFacts {
    let backup = match policy.backup {
        BackupPolicy::Required => "required",
        BackupPolicy::Off => "off",
    };
    PolicyFacts {
        backup: backup.to_owned(),
        encrypt_lease: format_duration(policy.encrypt_lease),
        grace_period: format_duration(policy.timing.grace_period),
        key_lifetime: format_duration(policy.key_lifetime),
        max_encryptions: policy.max_encryptions,
    }
}
