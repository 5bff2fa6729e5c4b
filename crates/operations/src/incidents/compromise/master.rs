//! The master key is reported: whoever has it and a copy of the store has every key that was ever under it, so each keyring gets another, under another master key.

mod retired;

use chrono::{DateTime, Utc};
use rekey_domain::{KeyName, KeyRef, KeyState, Principal};
use rekey_store::{
    Unit,
    audit::{Action as Audited, Record},
    keyrings::{self, Keyring},
    keys::{
        self, Key,
        reported_masters::{self, ReportedMaster},
    },
    rotations,
};
use serde::Serialize;
use serde_json::json;

use super::{Cause, Report, Reported, checked, take};
use crate::{
    Action, MasterRotation, OperationError, Services, StartWith, authorise,
    incidents::left,
    keys::master::{Begun, alone, sealed_anew},
};

/// What somebody says of a master key.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterReport {
    /// Its id at the KMS.
    pub master_key: String,
    /// Why they think so; sealed in the audit log, and nowhere else.
    pub reason: String,
    /// Since when others know it; none: nobody can say.
    pub since: Option<DateTime<Utc>>,
}

/// What a report of the master key led to.
#[derive(Debug, Clone, Serialize)]
pub struct MasterReported {
    /// The master key that wraps now, and what was wrapped anew under it.
    #[serde(flatten)]
    pub rotation: MasterRotation,
    /// The keys that were reported with it, one incident each.
    pub reported: Vec<Reported>,
}

/// Takes a report of a master key, be it the present one or one that was replaced: makes another, if it is the present
/// one; reports the primary key of each keyring that was ever under it, which goes on until it is replaced by one that
/// never was; and wraps every key anew. Cut short, the same report goes on.
///
/// Standbys that were under the reported master key are never used, and none is stored any more. Of a keyring whose
/// primary key never was under it what is left under its earlier keys is moved.
///
/// # Errors
/// [`OperationError::Refused`] where no key that was under it is left to be replaced, and as
/// [`report_compromise`](super::report_compromise).
pub async fn report_master_compromise(
    services: &Services,
    report: &MasterReport,
    principal: &Principal,
) -> Result<MasterReported, OperationError> {
    authorise(principal, Action::RotateMaster)?;
    checked(&report.reason, report.since, services.store.now().await?)?;
    alone(services, || taken(services, report, principal)).await
}

async fn taken(
    services: &Services,
    report: &MasterReport,
    principal: &Principal,
) -> Result<MasterReported, OperationError> {
    let start = start(services, &report.master_key).await?;
    let begun = Begun::with(services, start, principal).await?;
    let noted = noted(services, report, principal).await?;
    let mut reported = Vec::new();
    for key in left_to_report(services, &noted).await? {
        let report = Report {
            key: KeyRef::Name(key),
            reason: report.reason.clone(),
            since: report.since,
        };
        let cause = Cause::MasterKey(&noted);
        let taken = sealed_anew(services, async || {
            take(services, &report, cause, principal).await
        });
        reported.extend(taken.await?);
    }
    let rotation = begun.finish(principal).await?;
    Ok(MasterReported { rotation, reported })
}

/// Whether a new master key is made. An earlier report may have been cut short behind that, or it was replaced before.
async fn start(services: &Services, reported: &str) -> Result<StartWith, OperationError> {
    let db = services.store.db();
    let current = services.kms.describe().await?.id;
    if current == reported {
        return Ok(StartWith::NewMasterKey);
    }
    let keys = keys::wrapped(db).await?;
    let is_under = |key: &keys::StoredKey| key.master_key.as_deref() == Some(reported);
    if keys.iter().any(is_under) {
        return Ok(StartWith::PresentMasterKey);
    }
    if let Some(noted) = reported_masters::find(db, reported).await? {
        return match left_to_report(services, &noted).await?.is_empty() {
            false => Ok(StartWith::PresentMasterKey),
            true => Err(OperationError::Refused(format!(
                "master key {reported} was reported before, and every key that was under it is replaced; {current} wraps now"
            ))),
        };
    }
    match retired::is_known(db, reported).await? {
        true => Ok(StartWith::PresentMasterKey),
        false => Err(OperationError::Refused(format!(
            "no key is under master key {reported}, the audit log names none of this id, and {current} wraps now; rekey master show lists those that keys are under"
        ))),
    }
}

/// Notes the report, in one unit with all its standbys being stopped; from then on none is stored.
async fn noted(
    services: &Services,
    report: &MasterReport,
    principal: &Principal,
) -> Result<ReportedMaster, OperationError> {
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    let keyrings = locked(&unit).await?;
    let noted = match reported_masters::find(unit.db(), &report.master_key).await? {
        Some(noted) => noted,
        None => {
            let until = exposes_until(services, &unit, &report.master_key).await?;
            reported_masters::note(&unit, &report.master_key, report.since, until).await?
        }
    };
    let mut stopped = Vec::new();
    for keyring in &keyrings {
        let is_standby = |key: &Key| key.state == KeyState::Pending;
        let standbys = reported_masters::stop_exposed(&unit, keyring, &noted, is_standby).await?;
        if !standbys.is_empty() {
            rotations::keys_changed(&unit, keyring).await?;
        }
        stopped.extend(standbys.iter().map(|key| key.name(keyring)));
    }
    let record = Record {
        action: Audited::MasterKeyCompromised,
        subject: &report.master_key,
        outcome: "done",
        details: json!({
            "reason": report.reason,
            "since": report.since,
            "exposes_until": noted.exposes_until,
            "standbys": stopped,
        }),
    };
    pen.append(&unit, record).await?;
    unit.commit().await?;
    Ok(noted)
}

/// Every keyring, each locked: no standby is stored and no key switched meanwhile.
async fn locked(unit: &Unit) -> Result<Vec<Keyring>, OperationError> {
    let mut ids: Vec<_> = keyrings::all(unit.db())
        .await?
        .into_iter()
        .map(|one| one.id)
        .collect();
    // In one order, whoever locks several.
    ids.sort_unstable();
    let mut keyrings = Vec::new();
    for id in ids {
        keyrings.push(keyrings::lock(unit, id).await?);
    }
    Ok(keyrings)
}

/// Keys that were made by then may have been under it, whatever they are under by now.
async fn exposes_until(
    services: &Services,
    unit: &Unit,
    master_key: &str,
) -> Result<Option<DateTime<Utc>>, OperationError> {
    let keys = keys::wrapped(unit.db()).await?;
    let under = keys
        .iter()
        .filter(|key| key.master_key.as_deref() == Some(master_key));
    let newest = under.map(|key| key.created_at).max();
    Ok(newest.max(retired::keys_until(unit.db(), master_key, services.store.now().await?).await?))
}

/// Of each keyring the primary key, if it was under the master key, else the latest key before it that was and under
/// which values may stand.
async fn left_to_report(
    services: &Services,
    noted: &ReportedMaster,
) -> Result<Vec<KeyName>, OperationError> {
    let db = services.store.db();
    let mut left = Vec::new();
    for keyring in keyrings::all(db).await? {
        let mut keys = keys::of_keyring(db, keyring.id).await?;
        keys.retain(|key| noted.exposes(key));
        let latest = rotations::latest(db, keyring.id).await?;
        let seals_columns = left::seals_columns(db, keyring.id).await?;
        let may_be_left = |key: &&Key| {
            let is_left = seals_columns && left::may_be_left(key, latest.as_ref());
            key.state == KeyState::Inactive || is_left
        };
        let primary = keys.iter().find(|key| key.state == KeyState::Active);
        let key = primary.or_else(|| keys.iter().rfind(may_be_left));
        left.extend(key.map(|key| key.name(&keyring)));
    }
    Ok(left)
}
