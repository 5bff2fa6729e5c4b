//! Asking for a sweep: rows below a keyring's primary key move to it, and no key is replaced.

use chrono::{DateTime, Utc};
use rekey_domain::{
    ColumnName, KeyringName, Principal, RotationKind, RotationReason, RotationState, SweepDecision,
    decide_sweep,
};
use rekey_messages::RotationDue;
use rekey_store::{
    Unit, audit, keyrings,
    rotations::{self, Rotation, emergency},
    sweeps,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{Action, OperationError, Services, access::audited::Audited, rotations::canary};

/// What a request for a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepOutcome {
    /// A sweep starts.
    Started,
    /// The live rotation reads those rows again after its grace period.
    Joined,
    /// The live rotation reads all rows below its target again, now.
    AnotherPass,
}

impl SweepOutcome {
    /// The audit log's action and subject: the keyring, or the rotation that joins the request, so that its certificate
    /// shows it.
    fn audited(self, keyring: &KeyringName, rotation: Uuid) -> (audit::Action, String) {
        match self {
            Self::Started => (audit::Action::SweepStarted, keyring.to_string()),
            Self::Joined | Self::AnotherPass => (audit::Action::SweepJoined, rotation.to_string()),
        }
    }
}

/// What reads rows of a keyring again.
#[derive(Debug, Clone, Serialize)]
pub struct SweepView {
    /// The keyring.
    pub keyring: KeyringName,
    /// The rotation that does it.
    pub rotation: Uuid,
    /// Whether it makes a switch.
    pub kind: RotationKind,
    /// Where it stands.
    pub state: RotationState,
    /// What the request came to.
    pub outcome: SweepOutcome,
    /// The columns that were asked for; none: all.
    pub columns: Vec<ColumnName>,
    /// When its grace period ends, if that is waited for and known.
    pub not_before: Option<DateTime<Utc>>,
    /// Why it is on hold, if it is.
    pub paused_because: Option<String>,
}

/// Has rows below a keyring's primary key moved to it: those of these columns, or of none named all.
///
/// # Errors
/// [`OperationError::Configuration`] for a column that is not the keyring's; [`OperationError::Store`] for a keyring
/// that is not there or has no primary key; [`OperationError::Refused`] where a failed rotation is to be retried first.
pub async fn sweep_keyring(
    services: &Services,
    keyring: &KeyringName,
    columns: &[ColumnName],
    principal: &Principal,
) -> Result<SweepView, OperationError> {
    crate::authorise(principal, Action::Sweep)?;
    let protects = keyrings::by_name(services.store.db(), keyring).await?;
    for column in columns {
        canary::check_column(services, &protects, column).await?;
    }
    ask(
        services,
        keyring,
        columns,
        principal,
        Action::Sweep,
        json!({}),
    )
    .await
}

/// Asks for a sweep of a keyring, and audits it with these details.
pub(crate) async fn ask(
    services: &Services,
    keyring: &KeyringName,
    columns: &[ColumnName],
    principal: &Principal,
    action: Action,
    details: serde_json::Value,
) -> Result<SweepView, OperationError> {
    let asked = Audited::begin(services, principal, action).await?;
    let id = keyrings::by_name(asked.unit.db(), keyring).await?.id;
    let reason = RotationReason::Request;
    let (rotation, outcome) = sweep(&asked.unit, id, columns, reason, principal).await?;
    let (audited, subject) = outcome.audited(keyring, rotation.id);
    let details = audit_details(&rotation, keyring, columns, outcome, details);
    asked.commit(audited, &subject, details).await?;
    tracing::info!(%keyring, rotation = %rotation.id, action = %audited, "a sweep was asked for");
    Ok(view(rotation, keyring, columns, outcome))
}

/// What the audit log keeps of a request for a sweep.
fn audit_details(
    rotation: &Rotation,
    keyring: &KeyringName,
    columns: &[ColumnName],
    outcome: SweepOutcome,
    mut details: serde_json::Value,
) -> serde_json::Value {
    details["rotation"] = json!(rotation.id);
    details["keyring"] = json!(keyring);
    details["outcome"] = json!(outcome);
    details["columns"] = json!(columns);
    details
}

fn view(
    rotation: Rotation,
    keyring: &KeyringName,
    columns: &[ColumnName],
    outcome: SweepOutcome,
) -> SweepView {
    let in_grace = rotation.state == RotationState::Grace;
    SweepView {
        keyring: keyring.clone(),
        rotation: rotation.id,
        kind: rotation.kind,
        state: rotation.state,
        outcome,
        columns: columns.to_vec(),
        not_before: rotation.due_at.filter(|_| in_grace),
        paused_because: rotation.paused.then(|| {
            let why = rotation.paused_because;
            why.unwrap_or_else(|| "no reason given".to_owned())
        }),
    }
}

/// Asks for a sweep of a keyring, of the rows in which these columns stand; of none named: of all
/// rows. Gives the rotation that reads them again.
///
/// # Errors
/// [`OperationError::Refused`] where a failed rotation is to be retried first,
/// [`OperationError::Store`] for a keyring without a primary key.
pub async fn sweep(
    unit: &Unit,
    keyring: Uuid,
    columns: &[ColumnName],
    reason: RotationReason,
    principal: &Principal,
) -> Result<(Rotation, SweepOutcome), OperationError> {
    // Of two requests at once the second finds what the first led to.
    let keyring = keyrings::lock(unit, keyring).await?;
    let latest = latest(unit, keyring.id).await?;
    let mut columns = columns.to_vec();
    let hurries = |one: &Rotation| {
        one.is_emergency() && one.kind == RotationKind::Sweep && one.state.is_live()
    };
    let decision = match &latest {
        // That one covers all columns, and its incident must not be lost.
        Some(one) if hurries(one) => SweepDecision::AnotherPass,
        latest => decide_sweep(latest.as_ref().map(|one| (one.kind, one.state))),
    };
    let (rotation, outcome) = match (decision, latest) {
        (SweepDecision::Join, Some(live)) => (live, SweepOutcome::Joined),
        (SweepDecision::AnotherPass, Some(live)) => {
            rotations::sweep_again(unit, &live, None).await?;
            (live, SweepOutcome::AnotherPass)
        }
        (SweepDecision::RetryFirst, Some(failed)) => return Err(retry_first(&failed)),
        (decision, latest) => {
            let earlier = latest.filter(|_| decision == SweepDecision::Supersede);
            if let Some(earlier) = &earlier {
                columns = sweeps::supersede(unit, earlier, &columns).await?;
            }
            let started = sweeps::start(unit, &keyring, &columns, reason, principal);
            let mut started = started.await?;
            if let Some(earlier) = earlier.filter(Rotation::is_emergency) {
                started = emergency::take_over(unit, &earlier, &started).await?;
            }
            (started, SweepOutcome::Started)
        }
    };
    let due = RotationDue {
        rotation: rotation.id,
    };
    unit.send(&due).await?;
    Ok((rotation, outcome))
}

/// The keyring's latest rotation, which stays as it is until the unit ends.
async fn latest(unit: &Unit, keyring: Uuid) -> Result<Option<Rotation>, OperationError> {
    match rotations::latest(unit.db(), keyring).await? {
        Some(latest) => Ok(Some(rotations::lock(unit, latest.id).await?.into())),
        None => Ok(None),
    }
}

fn retry_first(failed: &Rotation) -> OperationError {
    let id = failed.id;
    let why = failed.failure.as_deref();
    OperationError::Refused(format!(
        "rotation {id} of the keyring has failed ({}); mend the cause, then rekey rotations retry {id}: its next pass tries them again",
        why.unwrap_or("batches were given up")
    ))
}
