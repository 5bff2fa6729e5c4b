//! What people are told: kind, severity, ids, counts, times, the command that helps. No reason, no row, no patient, no
//! key material, no name of a person: who receives it is outside, and mail is read by many.

use chrono::{DateTime, Utc};
use rekey_domain::{About, AlertKind, IncidentState, Occurrence, Severity};
use rekey_store::{
    ConnectionTrait, StoreError,
    alerts::{self, Alert},
    deliveries::{self, Delivery},
    incidents::{self, Incident},
    keyrings, keys,
};
use serde::Serialize;
use uuid::Uuid;

use crate::incidents::{left, needs};

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What it is about: `incident`, `alert`, `digest`, `test`.
    pub about: String,
    /// What became of it: `began` or `ended`.
    pub event: String,
    /// What happened, or what state it is: `COMPROMISED`, `ROTATION_FAILED`.
    pub kind: String,
    /// How soon a person is needed.
    pub severity: Severity,
    /// The id of what it is about.
    pub id: Uuid,
    /// Which key, rotation, keyring or worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How many, where it is about a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of a digest: how many of each kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindCount>,
    /// When it began, by the store's clock.
    pub began_at: DateTime<Utc>,
    /// The rotation that moves what stood under a compromised key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Uuid>,
    /// The deployment.
    pub deployment: Uuid,
    /// The command that helps.
    pub command: String,
    /// A link to what helps, where `[monitoring] runbooks` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// How many of a kind went along in a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// How many.
    pub count: u64,
}

impl Notice {
    /// Whether it says that something ended.
    pub fn is_end(&self) -> bool {
        self.event == Occurrence::Ended.to_string()
    }

    /// One line.
    pub fn title(&self) -> String {
        let ended = match (self.is_end(), self.about.as_str()) {
            (false, _) => "",
            (true, "incident") => "resolved: ",
            (true, _) => "over: ",
        };
        let (kind, severity) = (&self.kind, self.severity);
        let subject = self.subject.as_ref();
        let subject = subject.map_or_else(String::new, |subject| format!(" {subject}"));
        let count = match self.count {
            Some(count) if count > 0 => format!(" ({count})"),
            _ => String::new(),
        };
        format!("[rekey] {ended}{severity} {kind}{subject}{count}")
    }
}

/// What is said of a delivery; none where what it is about is gone.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of(
    db: &impl ConnectionTrait,
    delivery: &Delivery,
    runbooks: Option<&str>,
) -> Result<Option<Notice>, StoreError> {
    let deployment = keyrings::deployment(db).await?;
    let notice = match delivery.about {
        About::Incident => {
            let incident = incidents::by_id(db, delivery.subject).await?;
            Some(of_incident(db, &incident, deployment).await?)
        }
        About::Alert => match alerts::find(db, delivery.subject).await? {
            Some(alert) => Some(of_alert(db, &alert, delivery.presses, deployment).await?),
            None => None,
        },
        About::Digest => Some(of_digest(db, delivery, deployment).await?),
        About::Test => Some(of_test(delivery, deployment)),
    };
    Ok(notice.map(|notice| Notice {
        about: delivery.about.to_string(),
        event: delivery.event.to_string(),
        began_at: delivery.occasion,
        link: runbooks.map(|runbooks| format!("{runbooks}{}", notice.kind)),
        ..notice
    }))
}

async fn of_incident(
    db: &impl ConnectionTrait,
    incident: &Incident,
    deployment: Uuid,
) -> Result<Notice, StoreError> {
    let keyring = keyrings::by_id(db, incident.keyring_id).await?;
    let key = keys::find(db, incident.key_id).await?;
    let needs = match &key {
        Some(key) => needs::of(db, incident, (&keyring, key)).await?,
        None => None,
    };
    let name = key.map_or_else(
        || incident.key_id.to_string(),
        |key| key.name(&keyring).to_string(),
    );
    let id = incident.id;
    let needs = needs.map_or_else(String::new, |needs| format!("{needs}; "));
    let command = match incident.state {
        IncidentState::Resolved => format!("rekey incidents show {id}"),
        _ => format!("{needs}rekey incidents show {id}; seen it: rekey incidents acknowledge {id}"),
    };
    Ok(Notice {
        kind: incident.kind.to_string(),
        severity: incident.kind.severity(),
        subject: Some(name),
        rotation: incident.rotation_id,
        ..blank(id, deployment, incident.opened_at, command)
    })
}

/// It is as severe as when it was raised: by now it may be more.
async fn of_alert(
    db: &impl ConnectionTrait,
    alert: &Alert,
    presses: bool,
    deployment: Uuid,
) -> Result<Notice, StoreError> {
    let command = helps(db, alert.kind, &alert.subject).await?;
    let command = format!("{command}; seen it: rekey alerts acknowledge {}", alert.id);
    Ok(Notice {
        kind: alert.kind.to_string(),
        severity: alert.kind.severity_when(presses),
        // Who reported something may be a person.
        subject: (alert.kind != AlertKind::UnknownKeyReported).then(|| alert.subject.clone()),
        count: Some(alert.figure),
        ..blank(alert.id, deployment, alert.raised_at, command)
    })
}

/// The command that helps.
async fn helps(
    db: &impl ConnectionTrait,
    kind: AlertKind,
    subject: &str,
) -> Result<String, StoreError> {
    Ok(match kind {
        AlertKind::UnknownKeyReported => "rekey audit list, then rekey audit show ENTRY".to_owned(),
        AlertKind::NeverActive => "rekey quarantine list --reason never-active".to_owned(),
        AlertKind::WrittenAfterCompromise => {
            "rekey quarantine list --reason written-after-compromise".to_owned()
        }
        AlertKind::KeyMayBeDestroyed => "rekey census".to_owned(),
        AlertKind::BackupFailed => "rekey backups list".to_owned(),
        AlertKind::NoRecoveryKey => "rekey recovery split --to DIR".to_owned(),
        AlertKind::MasterReportUnfinished => {
            format!("rekey master compromise {subject} --reason TEXT")
        }
        AlertKind::StoreRolledBack => "rekey restore --reconcile --plan".to_owned(),
        AlertKind::BackupWaived
        | AlertKind::Expiring
        | AlertKind::UsageNearLimit
        | AlertKind::NoPrimary
        | AlertKind::NoStandby => "rekey keys list".to_owned(),
        AlertKind::RotationFailed | AlertKind::RotationStalled => {
            format!("rekey rotations show {subject}")
        }
        AlertKind::LeftUnderCompromised => left::helps(db, subject).await?,
        AlertKind::CertificateUnsigned => format!("rekey rotations certificate {subject}"),
        AlertKind::QuarantineNotEmpty => "rekey quarantine list".to_owned(),
        AlertKind::DeadLetters => "rekey dead-letters list".to_owned(),
        AlertKind::Stragglers
        | AlertKind::OutboxOld
        | AlertKind::WorkerSilent
        | AlertKind::KmsAway
        | AlertKind::SourceAway => "rekey status".to_owned(),
        AlertKind::ChannelDead => format!("rekey notify test {subject}"),
    })
}

async fn of_digest(
    db: &impl ConnectionTrait,
    delivery: &Delivery,
    deployment: Uuid,
) -> Result<Notice, StoreError> {
    let counted = deliveries::digested(db, delivery.subject).await?;
    let all = counted.iter().map(|(_, count)| count).sum();
    let severities = counted
        .iter()
        .filter_map(|(kind, _)| Some(kind.parse::<AlertKind>().ok()?.severity()));
    let severity = severities.max().unwrap_or(Severity::High);
    let kinds = counted
        .into_iter()
        .map(|(kind, count)| KindCount { kind, count });
    let command = "rekey alerts list".to_owned();
    Ok(Notice {
        kind: "DIGEST".to_owned(),
        severity,
        count: Some(all),
        kinds: kinds.collect(),
        ..blank(delivery.subject, deployment, delivery.occasion, command)
    })
}

fn of_test(delivery: &Delivery, deployment: Uuid) -> Notice {
    let command = "nothing is wrong: somebody tried this channel out".to_owned();
    Notice {
        kind: "TEST".to_owned(),
        severity: Severity::Low,
        ..blank(delivery.subject, deployment, delivery.occasion, command)
    }
}

fn blank(id: Uuid, deployment: Uuid, began_at: DateTime<Utc>, command: String) -> Notice {
    Notice {
        about: String::new(),
        event: String::new(),
        kind: String::new(),
        severity: Severity::Low,
        id,
        subject: None,
        count: None,
        kinds: Vec::new(),
        began_at,
        rotation: None,
        deployment,
        command,
        link: None,
    }
}
