//! Incidents and alerts as people see them. What reporters said is opened only in the view of a single incident.

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_domain::{
    AlertKind, IncidentKind, IncidentState, KeyId, KeyName, KeyringName, Principal, Severity,
};
use rekey_store::{
    ConnectionTrait, StoreError,
    alerts::{self, Alert},
    audit,
    incidents::{self, Exposure, Incident},
    keyrings, keys,
    rotations::{self, Rotation},
};
use serde::Serialize;
use uuid::Uuid;

use super::{left, needs};
use crate::{Action, OperationError, Services, audit::opened, authorise};

/// An incident.
#[derive(Debug, Clone, Serialize)]
pub struct IncidentView {
    /// Its id.
    pub id: Uuid,
    /// What happened.
    pub kind: IncidentKind,
    /// How far people have come with it.
    pub state: IncidentState,
    /// The keyring.
    pub keyring: KeyringName,
    /// The key.
    pub key: Option<KeyName>,
    /// Its id.
    pub key_id: KeyId,
    /// The rotation that moves what stood under the key.
    pub rotation: Option<Uuid>,
    /// Those that did before, as where it was cancelled, or values came back and the key was reported again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_rotations: Vec<Uuid>,
    /// Who reported it first.
    pub reported_by: Principal,
    /// When.
    pub opened_at: DateTime<Utc>,
    /// Since when others know the key, as was said.
    pub since: Option<DateTime<Utc>>,
    /// What was last known to stand under the key, when it was reported.
    pub exposure: Option<Exposure>,
    /// Why nobody can read what the first report said.
    pub withheld: Option<String>,
    /// Who took it up.
    pub acknowledged_by: Option<Principal>,
    /// Who said that it is over.
    pub resolved_by: Option<Principal>,
    /// What has to be said before anything is done about the key; none: it is being done.
    pub needs: Option<String>,
    /// What was said and done, first thing first; of one incident only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<ReportView>,
}

/// What somebody said or did about an incident.
#[derive(Debug, Clone, Serialize)]
pub struct ReportView {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: Principal,
    /// What they did, as in the audit log.
    pub action: String,
    /// What they said, where it can be opened.
    pub said: Option<String>,
}

/// An alert.
#[derive(Debug, Clone, Serialize)]
pub struct AlertView {
    /// Its id.
    pub id: Uuid,
    /// What state it is.
    pub kind: AlertKind,
    /// How soon a person is needed.
    pub severity: Severity,
    /// Of what.
    pub subject: String,
    /// What it says, in a sentence.
    pub says: String,
    /// The incident that it belongs to.
    pub incident: Option<Uuid>,
    /// Since when.
    pub raised_at: DateTime<Utc>,
    /// Who has seen it.
    pub acknowledged_by: Option<Principal>,
    /// When the state had passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<DateTime<Utc>>,
}

/// Every incident, latest first.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn incident_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<IncidentView>, OperationError> {
    authorise(principal, Action::ReadIncidents)?;
    let mut views = Vec::new();
    for incident in incidents::all(services.store.db()).await? {
        views.push(view(services, incident).await?);
    }
    Ok(views)
}

/// Those that nobody has said to be over.
pub(crate) async fn unresolved(services: &Services) -> Result<Vec<IncidentView>, OperationError> {
    let mut views = Vec::new();
    for incident in incidents::all(services.store.db()).await? {
        if incident.state.is_open() {
            views.push(view(services, incident).await?);
        }
    }
    Ok(views)
}

/// One of them, with what was said.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id.
pub async fn incident_view(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<IncidentView, OperationError> {
    authorise(principal, Action::ReadIncidents)?;
    let db = services.store.db();
    let incident = incidents::by_id(db, id).await?;
    let mut view = view(services, incident).await?;
    for entry in audit::of_subject(db, &id.to_string()).await? {
        let details = opened(services, &entry).await?;
        let text = |name: &str| Some(details.as_ref()?[name].as_str()?.to_owned());
        view.reports.push(ReportView {
            at: entry.time,
            by: entry.principal().clone(),
            said: text("reason").or_else(|| text("because")),
            action: entry.action,
        });
    }
    Ok(view)
}

async fn view(services: &Services, incident: Incident) -> Result<IncidentView, OperationError> {
    let db = services.store.db();
    let keyring = keyrings::by_id(db, incident.keyring_id).await?;
    let stored = keys::find(db, incident.key_id).await?;
    let needs = match &stored {
        Some(key) => needs::of(db, &incident, (&keyring, key)).await?,
        None => None,
    };
    let key = stored.map(|key| key.name(&keyring));
    let earlier_rotations = earlier_rotations(db, &incident).await?;
    Ok(IncidentView {
        id: incident.id,
        kind: incident.kind,
        state: incident.state,
        keyring: keyring.name,
        key,
        key_id: incident.key_id,
        rotation: incident.rotation_id,
        earlier_rotations,
        reported_by: incident.reported_by,
        opened_at: incident.opened_at,
        since: incident.since,
        exposure: incident.exposure,
        withheld: incident.withheld,
        acknowledged_by: incident.acknowledged.map(|(by, _)| by),
        resolved_by: incident.resolved.map(|(by, _)| by),
        needs,
        reports: Vec::new(),
    })
}

/// Rotations that answered the incident before the one that does now, first one first.
async fn earlier_rotations(
    db: &impl ConnectionTrait,
    incident: &Incident,
) -> Result<Vec<Uuid>, StoreError> {
    let rotations = rotations::of_keyring(db, incident.keyring_id).await?;
    let answered = |one: &&Rotation| {
        one.incident_id == Some(incident.id) && Some(one.id) != incident.rotation_id
    };
    let mut earlier: Vec<_> = rotations
        .iter()
        .filter(answered)
        .map(|one| one.id)
        .collect();
    earlier.sort_unstable();
    Ok(earlier)
}

/// The alerts that are raised, the most pressing first.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn alert_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<AlertView>, OperationError> {
    authorise(principal, Action::ReadIncidents)?;
    raised(services).await
}

pub(crate) async fn raised(services: &Services) -> Result<Vec<AlertView>, OperationError> {
    let db = services.store.db();
    let mut views = Vec::new();
    for alert in alerts::raised(db).await? {
        views.push(shown(db, alert).await?);
    }
    views.sort_by_key(|view| std::cmp::Reverse(view.severity));
    Ok(views)
}

/// One alert, raised or not.
///
/// # Errors
/// [`OperationError::Store`] when there is none of this id.
pub async fn alert_view(
    services: &Services,
    id: Uuid,
    principal: &Principal,
) -> Result<AlertView, OperationError> {
    authorise(principal, Action::ReadIncidents)?;
    let db = services.store.db();
    let found = alerts::find(db, id).await?;
    let unknown = || StoreError::Unknown {
        what: format!("alert {id}"),
        known: Vec::new(),
    };
    Ok(shown(db, found.ok_or_else(unknown)?).await?)
}

async fn shown(db: &impl ConnectionTrait, alert: Alert) -> Result<AlertView, StoreError> {
    let mut says = says(&alert);
    if alert.kind == AlertKind::LeftUnderCompromised {
        says = format!("{says}: {}", left::helps(db, &alert.subject).await?);
    }
    Ok(AlertView {
        id: alert.id,
        kind: alert.kind,
        severity: alert.severity,
        says,
        subject: alert.subject,
        incident: alert.incident_id,
        raised_at: alert.raised_at,
        acknowledged_by: alert.acknowledged.map(|(by, _)| by),
        cleared_at: alert.cleared_at,
    })
}

fn says(alert: &Alert) -> String {
    let Alert {
        subject, figure, ..
    } = alert;
    match alert.kind {
        AlertKind::UnknownKeyReported => format!(
            "{subject} reported a key compromised that there is not: rekey audit list, then rekey audit show ENTRY of what was refused names the key"
        ),
        AlertKind::NeverActive => format!(
            "{figure} value(s) stand under {subject}, which was never primary: somebody else wrote them; rekey quarantine list --reason never-active, and a rekey sweep of its keyring counts anew"
        ),
        AlertKind::WrittenAfterCompromise => format!(
            "{figure} value(s) were found under {subject} after its rows were moved: forged, stored late, or put back; rekey quarantine list --reason written-after-compromise"
        ),
        AlertKind::BackupFailed if subject.starts_with("checkpoints/") => format!(
            "no checkpoint was written at destination {}: the newest one there is gone, altered or out of reach, as the verifier's log says; a store that goes back in time is not noticed by it meanwhile",
            subject.trim_start_matches("checkpoints/")
        ),
        AlertKind::BackupFailed => match subject.strip_prefix("destination/") {
            Some(place) => format!(
                "{figure} key(s) have no fresh proof of a backup at destination {place}: rekey backups list says why; rekey backups create, once that is mended"
            ),
            None if subject == "deployment" => format!(
                "the backup of what the store knows beside keys is bad at {figure} destination(s): rekey backups list says what a drill found; it is stored anew by itself where that can help"
            ),
            None => format!(
                "the backup of {subject} is bad at {figure} destination(s): rekey backups show {subject} says what a drill found; it is stored anew by itself where that can help"
            ),
        },
        AlertKind::NoRecoveryKey => format!(
            "bundles of {figure} key(s) are sealed to no RECOVERY key: if the KMS and the store are lost, nothing opens them; rekey recovery split --to DIR, and recovery_fingerprint in the verifier's rekey.toml"
        ),
        AlertKind::MasterReportUnfinished => format!(
            "the report of master key {subject} was cut short: {figure} key(s) that whoever has it has too are neither stopped nor being replaced, or are wrapped under it still: say rekey master compromise {subject} again, it goes on"
        ),
        AlertKind::StoreRolledBack => format!(
            "the store was rolled back or altered, by what {subject} knows of it: nothing is encrypted until a person has reconciled it; rekey status says what was found, rekey restore --reconcile --plan what would be done"
        ),
        AlertKind::BackupWaived => {
            format!("{subject} became primary in an emergency without a proved backup")
        }
        AlertKind::Expiring => match alert.severity {
            Severity::Critical => {
                format!("{subject} has expired and is primary still: rekey rotate its keyring")
            }
            _ => format!("{subject} expires soon, and no schedule rotates it before"),
        },
        AlertKind::UsageNearLimit => format!(
            "{subject} has made {figure} % of the encryptions that a key may make: rekey rotate its keyring"
        ),
        AlertKind::NoPrimary => {
            format!("keyring {subject} has no primary key: nothing can be encrypted")
        }
        AlertKind::NoStandby => format!(
            "keyring {subject} has no standby: a compromised key could not be replaced at once; see that the rotators reach the KMS"
        ),
        AlertKind::RotationFailed => {
            format!("rotation {subject} failed: rekey rotations show {subject}")
        }
        AlertKind::RotationStalled => format!(
            "rotation {subject} waits for a person, or has waited for over an hour: rekey rotations show {subject}"
        ),
        AlertKind::QuarantineNotEmpty => {
            format!("{figure} value(s) of keyring {subject} in quarantine: rekey quarantine list")
        }
        AlertKind::Stragglers => format!(
            "{figure} value(s) of keyring {subject} were found under keys before the primary one, or there are values under keys that nobody knows: rekey status; after a rotation that was cancelled no sweep starts by itself: rekey sweep {subject}"
        ),
        AlertKind::LeftUnderCompromised => {
            format!(
                "{subject} is compromised, values may stand under it, and no rotation moves them"
            )
        }
        AlertKind::CertificateUnsigned => format!(
            "the certificate of rotation {subject} waits for its signature: see that the rotators reach the KMS"
        ),
        AlertKind::OutboxOld => {
            "messages have waited for a worker for over five minutes: rekey status".to_owned()
        }
        AlertKind::DeadLetters => format!("{figure} dead letter(s): rekey dead-letters list"),
        AlertKind::WorkerSilent => format!("no {subject} gives a sign of life"),
        AlertKind::KmsAway => "the KMS does not answer: rekey status says why".to_owned(),
        AlertKind::SourceAway => {
            format!("source {subject} does not answer: rekey status says why")
        }
        AlertKind::ChannelDead => format!(
            "channel {subject} does not take what it is told: rekey notify channels, then rekey notify test {subject}"
        ),
        AlertKind::KeyMayBeDestroyed => format!(
            "no value stood under {subject}, which is compromised, when all columns of its keyring were counted by {}; other keyrings' columns were not: it may be destroyed where rekey census finds none anywhere",
            alert.raised_at.to_rfc3339_opts(SecondsFormat::Secs, true)
        ),
    }
}
