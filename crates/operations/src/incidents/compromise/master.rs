//! The master key is reported: whoever has it and a copy of the store has every key, so each keyring gets another, under a new master key.

use chrono::{DateTime, Utc};
use rekey_domain::{KeyName, KeyRef, KeyState, Principal};
use rekey_store::{
    keyrings::{self, Keyring},
    keys::{self, StoredKey},
};
use serde::Serialize;

use super::{Cause, Report, Reported, checked, take};
use crate::{
    Action, MasterRotation, OperationError, Services, StartWith, authorise, keys::master::Begun,
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
    /// The new master key, and what was wrapped anew under it.
    #[serde(flatten)]
    pub rotation: MasterRotation,
    /// The keys that were reported with it, one incident each.
    pub reported: Vec<Reported>,
}

/// Takes a report of the master key: makes another, reports the primary key of each keyring, which goes on until it is
/// replaced by one that was made under the new master key, and wraps every key anew. Cut short, the same report goes on.
///
/// Standbys that were made under the reported master key are never used.
///
/// # Errors
/// [`OperationError::Refused`] where no key is under it and it is not the present one, and as
/// [`report_compromise`](super::report_compromise).
pub async fn report_master_compromise(
    services: &Services,
    report: &MasterReport,
    principal: &Principal,
) -> Result<MasterReported, OperationError> {
    authorise(principal, Action::RotateMaster)?;
    let start = start(services, &report.master_key).await?;
    checked(&report.reason, report.since, services.store.now().await?)?;
    let begun = Begun::with(services, start, principal).await?;
    let mut reported = Vec::new();
    for key in exposed(services, &report.master_key).await? {
        let report = Report {
            key: KeyRef::Name(key),
            reason: report.reason.clone(),
            since: report.since,
        };
        let taken = take(services, &report, Cause::MasterKey, principal).await?;
        reported.extend(taken);
    }
    let rotation = begun.finish(principal).await?;
    Ok(MasterReported { rotation, reported })
}

/// Whether a new master key is made, or an earlier report was cut short behind that.
async fn start(services: &Services, reported: &str) -> Result<StartWith, OperationError> {
    let current = services.kms.describe().await?.id;
    if current == reported {
        return Ok(StartWith::NewMasterKey);
    }
    let keys = keys::wrapped(services.store.db()).await?;
    if keys.iter().any(|key| is_under(key, reported)) {
        return Ok(StartWith::WhatIsLeft);
    }
    Err(OperationError::Refused(format!(
        "no key is under master key {reported}, and {current} wraps now; rekey master show lists those that keys are under"
    )))
}

fn is_under(key: &StoredKey, master_key: &str) -> bool {
    key.master_key.as_deref() == Some(master_key)
}

/// The primary key of each keyring that is under it, and a standby where only that is.
async fn exposed(services: &Services, master_key: &str) -> Result<Vec<KeyName>, OperationError> {
    let db = services.store.db();
    let keys = keys::wrapped(db).await?;
    let of = |keyring: &Keyring, state: KeyState| {
        let mut under = keys.iter().filter(|key| is_under(key, master_key));
        let found = under.find(|key| key.keyring_id == keyring.id && key.state == state);
        found.map(|key| key.name(keyring))
    };
    let keyrings = keyrings::all(db).await?;
    let exposed = keyrings.iter().filter_map(|keyring| {
        of(keyring, KeyState::Active).or_else(|| of(keyring, KeyState::Pending))
    });
    Ok(exposed.collect())
}
