//! The report of a compromised key: everything that follows at once follows in one unit, and never waits for the KMS.

mod case;
mod exposure;
mod master;
mod report;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{
    AlertKind, KeyName, KeyRef, KeyState, Principal, PrincipalKind, Purpose, Response, respond,
    respond_again,
};
use rekey_messages::Event;
use rekey_store::{
    ConnectionTrait, StoreError, Unit, alerts,
    audit::{self, AuditPen, Record},
    inbox,
    incidents::{self, Exposure},
    keyrings::{self, Keyring},
    keys::{self, Key, reported_masters::ReportedMaster},
    rotations::{self, Rotation},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use self::{
    case::{Case, stops},
    exposure::exposure,
};
pub use self::{
    master::{MasterReport, MasterReported, report_master_compromise},
    report::{Report, Reported},
};
use super::left::seals_columns;
use crate::{
    Action, OperationError, Services, access::audited::reason, authorise, keys::named::named,
};

/// Marks in the inbox that a report was taken.
const REPORT: &str = "operations.report";
/// So long is waited for the key that seals the report's details.
const PEN_WITHIN: Duration = Duration::from_secs(1);
/// Clocks of reporters may differ by so much from the store's.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// The most that a reason may say, in bytes.
const LONGEST_REASON: usize = 4096;

/// What a report would lead to now.
#[derive(Debug, Clone, Serialize)]
pub struct CompromisePlan {
    /// The key.
    pub key: KeyName,
    /// Its state.
    pub state: KeyState,
    /// What would be done.
    pub would: String,
    /// The standby that would take its place.
    pub standby: Option<KeyName>,
    /// How many values a census last found under it, and when.
    pub exposure: Option<Exposure>,
    /// For how long after the report a process that hears nothing of it may still encrypt under the key.
    pub leases_end_within: Option<Duration>,
}

/// Takes a report: stops the key, puts another in its place if it is primary, and has its values moved. All of that is
/// committed when this returns, or none of it.
///
/// # Errors
/// [`OperationError::Refused`] for a reason that is empty or too long, and a time ahead of the store's;
/// [`OperationError::Store`] for a key that does not exist.
pub async fn report_compromise(
    services: &Services,
    report: &Report,
    principal: &Principal,
) -> Result<Reported, OperationError> {
    match take(services, report, Cause::Person, principal).await {
        Err(OperationError::Store(error @ StoreError::Unknown { .. })) => {
            let (pen, _) = pen(services, principal).await;
            let unit = services.store.begin().await?;
            note_unknown(&unit, &pen, &error, principal).await?;
            unit.commit().await?;
            Err(error.into())
        }
        taken => Ok(taken?.expect("what is no event was not taken before")),
    }
}

/// Whoever names keys that there are not may be guessing.
async fn note_unknown(
    unit: &Unit,
    pen: &AuditPen,
    error: &StoreError,
    principal: &Principal,
) -> Result<(), StoreError> {
    let record = Record {
        action: audit::Action::RequestRefused,
        subject: &principal.to_string(),
        outcome: "refused",
        details: json!({ "reason": error.to_string(), "requests": 1 }),
    };
    pen.append(unit, record).await
}

/// The same for a report by an event; only the first event of an id counts.
///
/// # Errors
/// As [`report_compromise`]. A report of a key that does not exist raises an alert.
pub(crate) async fn take_report(
    services: &Services,
    report: &Report,
    event: &Event,
    principal: &Principal,
) -> Result<(), OperationError> {
    let now = services.store.now().await?;
    if let Some(time) = event.time.filter(|time| *time > now + AHEAD) {
        return Err(OperationError::Refused(format!(
            "the report is of {time}, and by the store's clock it is {now}"
        )));
    }
    match take(services, report, Cause::Event(event), principal).await {
        Err(OperationError::Store(error @ StoreError::Unknown { .. })) => {
            let (pen, _) = pen(services, principal).await;
            let unit = services.store.begin().await?;
            // Of the broker's users whoever admits writes it down.
            if principal.kind != PrincipalKind::Amqp {
                note_unknown(&unit, &pen, &error, principal).await?;
            }
            // One alert for each reporter, as ids can be invented without end.
            let (kind, by) = (AlertKind::UnknownKeyReported, principal.to_string());
            alerts::raise(&unit, kind, &by, None, 1).await?;
            unit.commit().await?;
            Err(error.into())
        }
        taken => taken.map(drop),
    }
}

/// What a report came by.
#[derive(Clone, Copy)]
enum Cause<'a> {
    Person,
    Event(&'a Event),
    /// A master key that the key was under is reported.
    MasterKey(&'a ReportedMaster),
}

async fn take(
    services: &Services,
    report: &Report,
    cause: Cause<'_>,
    principal: &Principal,
) -> Result<Option<Reported>, OperationError> {
    authorise(principal, Action::ReportCompromise)?;
    let now = services.store.now().await?;
    let report = &Report {
        reason: checked(&report.reason, report.since, now)?,
        ..report.clone()
    };
    let (pen, withheld) = pen(services, principal).await;
    let unit = services.store.begin().await?;
    if let Cause::Event(event) = cause
        && !inbox::first_sight(&unit, event, REPORT).await?
    {
        return Ok(None);
    }
    let (found, keyring) = named(unit.db(), &report.key).await?;
    // Two reports of one keyring are decided one after the other.
    let keyring = keyrings::lock(&unit, keyring.id).await?;
    let key = keys::find(unit.db(), found.id).await?.unwrap_or(found);
    let latest = match rotations::latest(unit.db(), keyring.id).await? {
        Some(latest) => Some(rotations::lock(&unit, latest.id).await?.into()),
        None => None,
    };
    let answering = answering(unit.db(), &key, latest.as_ref()).await?;
    let response = response(unit.db(), &key, latest.as_ref(), answering).await?;
    let case = Case {
        unit,
        pen,
        withheld,
        keyring,
        key,
        latest,
        answering,
        report,
        of_master: match cause {
            Cause::MasterKey(reported) => Some(reported),
            _ => None,
        },
        principal,
    };
    let reported = case.answer(response).await?;
    // This process hears of it too, as where the key was that of the audit log.
    services.client.keyring_changed(&reported.key.keyring);
    tracing::error!(key = %reported.key, incident = %reported.incident, by = %principal, "a key was reported compromised");
    Ok(Some(reported))
}

/// What a report would lead to; nothing is changed.
///
/// # Errors
/// [`OperationError::Store`] for a key that there is not.
pub async fn compromise_plan(
    services: &Services,
    key: &KeyRef,
    principal: &Principal,
) -> Result<CompromisePlan, OperationError> {
    authorise(principal, Action::ReportCompromise)?;
    let db = services.store.db();
    let (key, keyring) = named(db, key).await?;
    let latest = rotations::latest(db, keyring.id).await?;
    let now = services.store.now().await?;
    let standby = keys::standby(db, keyring.id).await?;
    // One that was just made is not used yet.
    let standby = standby.filter(|one| one.settles_at(db).is_none_or(|at| at <= now));
    let standby = standby.map(|standby| standby.name(&keyring));
    let answering = answering(db, &key, latest.as_ref()).await?;
    let response = response(db, &key, latest.as_ref(), answering).await?;
    let moves_rows = seals_columns(db, keyring.id).await?;
    let leased = matches!(key.state, KeyState::Active | KeyState::Inactive);
    Ok(CompromisePlan {
        key: key.name(&keyring),
        state: key.state,
        would: would(response, standby.as_ref(), (&key, &keyring, moves_rows)),
        standby,
        exposure: exposure(db, &keyring, &key).await?,
        leases_end_within: leased.then_some(
            key.longest_lease
                .unwrap_or_default()
                .max(keyring.policy.encrypt_lease),
        ),
    })
}

fn would(
    response: Response,
    standby: Option<&KeyName>,
    (key, keyring, moves_rows): (&Key, &Keyring, bool),
) -> String {
    if !moves_rows && let Some(would) = would_without_rows(response, standby, keyring) {
        return would;
    }
    if key.state == KeyState::Compromised
        && let Some(would) = would_again(response, key)
    {
        return would;
    }
    match (response, standby) {
        (Response::Note, _) => "open an incident; nothing is under the key any more".to_owned(),
        (Response::Again, _) => {
            "add a note to its incident, or open another where that is resolved".to_owned()
        }
        (Response::Replace { .. }, Some(standby)) => {
            format!("stop the key, make {standby} primary, and move every row to it at once")
        }
        (Response::Replace { .. }, None) if stops(keyring) => {
            "stop the key; nothing can be encrypted until the KMS has made another, then every row is moved to it"
                .to_owned()
        }
        (Response::Replace { .. }, None) => {
            "have another key made; the key goes on until then, then every row is moved".to_owned()
        }
        (Response::Sweep { .. }, _) => {
            "stop the key, and move what is left under it to the primary key at once".to_owned()
        }
        (Response::Hurry, _) => {
            "stop the key; the rotation under way moves what is left, and waits for leases only"
                .to_owned()
        }
        (Response::Restart | Response::OrderStandby, _) => {
            "stop the standby, and have another made".to_owned()
        }
    }
}

/// The same for a key that was stopped before.
fn would_again(response: Response, key: &Key) -> Option<String> {
    let would = match response {
        Response::Sweep { .. } | Response::Hurry if key.closed_at.is_some() => {
            "have every row read; the key was stopped before and its values were moved, so what is found under it now is not moved: it goes to quarantine as written-after-compromise"
        }
        Response::Sweep { .. } => "move what is left under it to the primary key at once",
        Response::Hurry => {
            "have the rotation under way move what is left under it, and wait for leases only"
        }
        _ => return None,
    };
    Some(would.to_owned())
}

/// The same for a key that seals no column, where it says of rows what there are none of.
fn would_without_rows(
    response: Response,
    standby: Option<&KeyName>,
    keyring: &Keyring,
) -> Option<String> {
    let would = match (response, standby) {
        (Response::Replace { .. }, Some(standby)) => {
            format!("stop the key and make {standby} primary")
        }
        (Response::Replace { .. }, None) if stops(keyring) => {
            "stop the key, and have another made, which is used as soon as it is there".to_owned()
        }
        (Response::Replace { .. }, None) => {
            "have another key made; the key goes on until then".to_owned()
        }
        (Response::Sweep { .. } | Response::Hurry, _) => "stop the key".to_owned(),
        _ => return None,
    };
    Some(match keyring.purpose {
        Purpose::Signing => {
            format!("{would}; every certificate that the key signed is unproved then")
        }
        _ => would,
    })
}

/// The rotation under way that moves what is under the key for an earlier report, and is not on hold.
async fn answering(
    db: &impl ConnectionTrait,
    key: &Key,
    latest: Option<&Rotation>,
) -> Result<Option<Uuid>, StoreError> {
    let Some(live) = latest.filter(|live| live.state.is_live() && live.is_emergency()) else {
        return Ok(None);
    };
    let answers = match key.state {
        // A pause of one that still has to replace the key counts later.
        KeyState::Active => key.reported_at.is_some() && live.lacks_its_key(),
        _ => {
            let of_key = incidents::of_key(db, key.id).await?;
            let names_it = of_key.iter().any(|one| one.rotation_id == Some(live.id));
            names_it && !live.paused
        }
    };
    Ok(answers.then_some(live.id))
}

async fn response(
    db: &impl ConnectionTrait,
    key: &Key,
    latest: Option<&Rotation>,
    answering: Option<Uuid>,
) -> Result<Response, StoreError> {
    let stands = latest.map(|latest| (latest.kind, latest.state));
    Ok(match (key.state, key.activated_at) {
        (KeyState::Active, _) if answering.is_some() => Response::Again,
        (KeyState::Compromised, Some(_)) => {
            let is_empty = key.emptied_at.is_some() || !seals_columns(db, key.keyring_id).await?;
            respond_again((answering.is_some(), is_empty), stands)
        }
        (state, _) => respond(state, stands),
    })
}

/// The reason as it is kept, where it and the time may be said.
fn checked(
    said: &str,
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<String, OperationError> {
    let text = reason(said, "a key is reported compromised")?;
    if text.len() > LONGEST_REASON {
        return Err(OperationError::Refused(format!(
            "the reason has {} bytes; expected at most {LONGEST_REASON}",
            text.len()
        )));
    }
    if let Some(since) = since.filter(|since| *since > now) {
        return Err(OperationError::Refused(format!(
            "others know the key since {since}, and by the store's clock it is {now}"
        )));
    }
    Ok(text.to_owned())
}

/// The pen, or one that withholds details where no AUDIT key can be had in time, and why.
async fn pen(services: &Services, principal: &Principal) -> (AuditPen, Option<String>) {
    let why = match tokio::time::timeout(PEN_WITHIN, services.pen(principal)).await {
        Ok(Ok(pen)) => return (pen, None),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no AUDIT key was opened within {} s", PEN_WITHIN.as_secs()),
    };
    (AuditPen::withholding(principal.clone()), Some(why))
}
