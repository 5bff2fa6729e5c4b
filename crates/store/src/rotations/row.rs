//! A rotation, as its row in the store says.

use std::{collections::HashMap, num::NonZeroU64};

use chrono::{DateTime, Utc};
use rekey_domain::{
    Canary, ColumnName, KeyId, Part, Principal, RotationKind, RotationReason, RotationState,
};
use uuid::Uuid;

use crate::{
    database::stored::{Id, Json, Text},
    rotations::{entities::rotation, figures::Totals},
};

/// The work that replaces a keyring's primary key, or moves rows to the present one. Moments in milliseconds are the
/// database's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id.
    pub id: Uuid,
    /// Its keyring.
    pub keyring_id: Uuid,
    /// Whether it switches keys, or moves what was left.
    pub kind: RotationKind,
    /// How far it has come.
    pub state: RotationState,
    /// Why it was asked for.
    pub reason: RotationReason,
    /// Who asked.
    pub principal: Principal,
    /// Whether it waits for a person.
    pub paused: bool,
    /// Why it is paused.
    pub paused_because: Option<String>,
    /// How often it was resumed.
    pub resumptions: i32,
    /// Whether its batches overtake others.
    pub urgent: bool,
    /// Of which plan its batches are.
    pub generation: u32,
    /// How often all ranges were gone over before.
    pub pass: i32,
    /// Whether the pass is planned to its end.
    pub planned: bool,
    /// The table that is planned next, by its place among those of the keyring.
    pub plan_table: i32,
    /// Its part that is under way.
    pub plan_part: Option<Part>,
    /// The last place of the part that has a range.
    pub plan_after: Option<i64>,
    /// The key that rows are moved to.
    pub target_key_id: Option<KeyId>,
    /// The primary key before the switch.
    pub previous_key_id: Option<KeyId>,
    /// When its state ends by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// When the scheduler looks at it.
    pub resend_at: i64,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When keys were switched.
    pub switched_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What its certificate says, as JSON.
    pub certificate: Option<String>,
    /// Its certificate, signed.
    pub certificate_jws: Option<String>,
    /// When its certificate is to be signed at the latest.
    pub certificate_due: Option<i64>,
    /// About how many rows are moved before it waits for a person.
    pub pause_after: Option<i64>,
    /// The one column that is moved before it waits for a person.
    pub only_column: Option<ColumnName>,
    /// Why it was cancelled.
    pub cancelled_because: Option<String>,
    /// The columns that a sweep goes over; none: all.
    pub sweep_columns: Option<Vec<ColumnName>>,
    /// What its batches added up to, once it was over.
    pub totals: Option<Totals>,
    /// For each source, a mark: transactions that were open at it must end before a census counts.
    pub fences: Option<HashMap<Uuid, String>>,
    /// What its next step waits for.
    pub waiting_because: Option<String>,
    /// Since when.
    pub waiting_since: Option<i64>,
    /// The columns that the pass reads.
    pub pass_columns: Option<Vec<Uuid>>,
    /// Whether it was paused as much of a column was in quarantine.
    pub stood_out: Option<bool>,
    /// Whether a person left values under unknown keys as they are; none: nobody was asked.
    pub unknown_keys_accepted: Option<bool>,
    /// The report of a compromised key that it answers, or hurries for; the latest of several.
    pub incident_id: Option<Uuid>,
    /// The pass that moves what was stored late: it began when nobody could write under a compromised key any more.
    pub late_pass: Option<i32>,
}

impl From<rotation::Model> for Rotation {
    fn from(row: rotation::Model) -> Self {
        Self {
            id: row.id,
            keyring_id: row.keyring_id,
            kind: row.kind.0,
            state: row.state.0,
            reason: row.reason.0,
            principal: row.principal.0,
            paused: row.paused,
            paused_because: row.paused_because,
            resumptions: row.resumptions,
            urgent: row.urgent,
            generation: row.generation.unsigned_abs(),
            pass: row.pass,
            planned: row.planned,
            plan_table: row.plan_table,
            plan_part: row.plan_part.map(|Json(part)| part),
            plan_after: row.plan_after,
            target_key_id: row.target_key_id.map(|Id(id)| id),
            previous_key_id: row.previous_key_id.map(|Id(id)| id),
            due_at: row.due_at,
            resend_at: row.resend_at,
            requested_at: row.requested_at,
            switched_at: row.switched_at,
            ended_at: row.ended_at,
            failure: row.failure,
            certificate: row.certificate,
            certificate_jws: row.certificate_jws,
            certificate_due: row.certificate_due,
            pause_after: row.pause_after,
            only_column: row.only_column.map(|Text(column)| column),
            cancelled_because: row.cancelled_because,
            sweep_columns: row.sweep_columns.map(|Json(columns)| columns),
            totals: row.totals.map(|Json(totals)| totals),
            fences: row.fences.map(|Json(fences)| fences),
            waiting_because: row.waiting_because,
            waiting_since: row.waiting_since,
            pass_columns: row.pass_columns.map(|Json(columns)| columns),
            stood_out: row.stood_out,
            unknown_keys_accepted: row.unknown_keys_accepted,
            incident_id: row.incident_id,
            late_pass: row.late_pass,
        }
    }
}

impl Rotation {
    /// Whether it answers the report of a compromised key, and so waits only for leases.
    pub fn is_emergency(&self) -> bool {
        self.incident_id.is_some()
    }

    /// Whether its present pass leaves nothing under a compromised key that was written in time.
    pub fn is_late_pass(&self) -> bool {
        self.late_pass == Some(self.pass)
    }

    /// Whether it still has to replace a compromised key.
    pub fn lacks_its_key(&self) -> bool {
        self.is_emergency() && self.state == RotationState::Requested
    }

    /// Whether it replaces a compromised key, or did.
    pub fn replaces_compromised(&self) -> bool {
        self.is_emergency() && self.kind == RotationKind::Switch
    }

    /// Whether a person put it on hold, and not what it met.
    pub fn is_paused_by_a_person(&self) -> bool {
        let because = self.paused_because.as_deref();
        self.paused && because.is_some_and(|because| because.starts_with("by "))
    }

    /// What its batches added up to; none while it is live, as they are counted then.
    pub(crate) fn totals_at_its_end(&self) -> Option<&Totals> {
        self.totals.as_ref().filter(|_| !self.state.is_live())
    }

    /// How often its ranges were gone over, the present pass included.
    pub fn passes(&self) -> u32 {
        self.pass.unsigned_abs() + 1
    }

    /// How much of it is done before it waits for a person.
    pub fn canary(&self) -> Canary {
        let rows = self.pause_after.and_then(|rows| u64::try_from(rows).ok());
        Canary {
            pause_after: rows.and_then(NonZeroU64::new),
            only: self.only_column.clone(),
        }
    }
}
