//! A rotation's life: which state it is in, and the one step it takes next.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::KEY_SETTLES;

/// The times a rotation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long clients may go on with a key set before they must ask again; a new key waits as
    /// long before it encrypts, so that no reader meets a key it does not have.
    pub keyset_max_age: Duration,
    /// How long after the switch clients may still write under the old key; extended to the end of the last lease if
    /// that is later.
    pub grace_period: Duration,
    /// The time between sweeps when one sweep did not leave zero.
    pub sweep_every: Duration,
}

impl Timing {
    /// The times of a rotation for a compromised key. Readers ask for a key that they do not know; leases are waited
    /// out and nothing else; sweeps follow each other closely.
    #[must_use]
    pub fn of_emergency(self) -> Self {
        Self {
            keyset_max_age: Duration::ZERO,
            grace_period: Duration::ZERO,
            sweep_every: self.sweep_every.min(Duration::from_secs(60)),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            keyset_max_age: Duration::from_secs(60),
            grace_period: 7 * day,
            sweep_every: day,
        }
    }
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", parse_err_ty = String, parse_err_fn = no_rotation_state)]
pub enum RotationState {
    /// Asked for; waits for a standby key.
    Requested,
    /// The standby is being handed to clients for decryption.
    Distributing,
    /// The switch is made; batches move the rows.
    ReEncrypting,
    /// Clients that have not refreshed may still write under the old key.
    Grace,
    /// Sweeps and a census prove that nothing is left below the target.
    Verifying,
    /// Proved.
    Completed,
    /// A person stopped it where it was.
    Cancelled,
    /// A batch was given up; can be retried.
    Failed,
    /// A later rotation took all its rows along.
    Superseded,
}

fn no_rotation_state(text: &str) -> String {
    format!("rotation state {text:?} is not one of ours")
}

impl RotationState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Requested,
        Self::Distributing,
        Self::ReEncrypting,
        Self::Grace,
        Self::Verifying,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
        Self::Superseded,
    ];

    /// Whether the rotation still has steps to take by itself.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Requested
                | Self::Distributing
                | Self::ReEncrypting
                | Self::Grace
                | Self::Verifying
        )
    }

    /// Whether the machine has an arrow from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use RotationState::*;
        match (self, next) {
            (Requested, Distributing)
            | (Distributing, Requested | ReEncrypting)
            | (ReEncrypting, Grace | Failed)
            // A compromised key is replaced without waiting for its readers.
            | (Requested, ReEncrypting)
            | (Requested | Distributing | ReEncrypting, Superseded)
            | (Grace, Verifying)
            | (Verifying, Completed | Failed)
            | (Failed, ReEncrypting | Verifying | Superseded)
            | (Grace | Verifying, Superseded) => true,
            (from, Cancelled) => from.is_live() || from == Failed,
            _ => false,
        }
    }

    /// The state after the move to `next`.
    ///
    /// # Errors
    /// [`RotationError`] where the machine has no such arrow.
    pub fn become_state(self, next: Self) -> Result<Self, RotationError> {
        if self.may_become(next) {
            Ok(next)
        } else {
            Err(RotationError {
                from: self,
                to: next,
            })
        }
    }
}

/// A move a rotation may not make. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rotation that is {from} cannot become {to}")]
pub struct RotationError {
    /// The state it is in.
    pub from: RotationState,
    /// The state it was asked to take.
    pub to: RotationState,
}

/// Why a rotation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RotationReason {
    /// A cron tick.
    Schedule,
    /// A person or a system outside.
    Request,
    /// The primary key expired.
    Expiry,
    /// The primary key made its `max_encryptions`.
    Usage,
}

impl fmt::Display for RotationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "schedule",
            Self::Request => "request",
            Self::Expiry => "expiry",
            Self::Usage => "usage",
        })
    }
}

/// What the rules need to know of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Where it stands.
    pub state: RotationState,
    /// A person put it on hold.
    pub paused: bool,
    /// Only a part of the rows is planned; then it waits for a person.
    pub canary: bool,
    /// A key of its keyring is compromised.
    pub emergency: bool,
    /// When the wait of the present state ends, where it waits.
    pub due_at: Option<DateTime<Utc>>,
}

impl Rotation {
    /// Whether it still has to replace a compromised key.
    fn lacks_its_key(&self) -> bool {
        self.emergency && self.state == RotationState::Requested
    }
}

/// What a census of the current pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassCensus {
    /// Values below the target that are not in quarantine.
    pub below_target: u64,
}

/// What the store says about a rotation's surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The keyring has a standby key that may become primary.
    pub standby_ready: bool,
    /// Until when the standby is too young to be used, where the store has replicas that may not have it yet.
    pub standby_settles_at: Option<DateTime<Utc>>,
    /// All ranges of the current pass are planned.
    pub planned: bool,
    /// Batches of the current pass that are planned or in flight.
    pub open_batches: u64,
    /// Batches of the current pass that were given up.
    pub failed_batches: u64,
    /// Passes before the current one.
    pub passes_before: u32,
    /// Values that the current pass moved: nobody has opened them since.
    pub moved: u64,
    /// The census of the current pass, once taken.
    pub census: Option<PassCensus>,
    /// The latest time at which a process may still encrypt under a key before the primary. Until then no census tells
    /// what is left. None: no key was replaced.
    pub leases_end: Option<DateTime<Utc>>,
}

/// The one thing a rotation does next. The rotator carries it out; nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this time.
    WaitUntil(DateTime<Utc>),
    /// Nothing until something else happens: a standby, a batch's end, a person.
    Await,
    /// Have a standby made; then [`Step::Distribute`].
    OrderStandby,
    /// Hand the standby to clients, until this time.
    Distribute {
        /// When every client has it.
        until: DateTime<Utc>,
    },
    /// The standby was lost or used meanwhile: wait for another.
    Restart,
    /// Standby becomes primary, the old primary inactive.
    Switch,
    /// Plan ranges of the current pass.
    Plan,
    /// The part that was to go first is done: pause, and plan all the rest once a person resumes.
    EndCanary,
    /// All rows are moved: wait out clients that have not refreshed.
    BeginGrace {
        /// When the grace period ends.
        until: DateTime<Utc>,
    },
    /// Sweep, as the first pass of `VERIFYING`.
    BeginVerifying,
    /// Count rows by key id.
    TakeCensus,
    /// The census was not zero: another sweep at this time.
    SweepAgain {
        /// When.
        at: DateTime<Utc>,
    },
    /// The census is zero: write the certificate.
    Complete,
    /// Batches were given up.
    Fail,
}

/// So many passes may follow each other without a wait. If more still find values to move, something brings them back.
pub const PASSES_AT_ONCE: u32 = 8;

/// Decides the next step from what is stored.
pub fn next_step(rotation: &Rotation, facts: &Facts, timing: &Timing, now: DateTime<Utc>) -> Step {
    // A pause counts only after a compromised key is replaced: until then nothing can encrypt, and the application
    // stands still.
    let held = rotation.paused && !rotation.lacks_its_key();
    if held || !rotation.state.is_live() {
        return Step::Await;
    }
    let timing = match rotation.emergency {
        true => &timing.of_emergency(),
        false => timing,
    };
    // Every wait was set by us from a policy; one that lies further ahead than the policy allows
    // means the clock was stepped back since, and is cut to what is allowed.
    let waiting = |longest: Duration| {
        rotation
            .due_at
            .map(|due| due.min(now + longest))
            .filter(|due| now < *due)
    };
    let leased = facts.leases_end.filter(|end| now < *end);
    match rotation.state {
        RotationState::Requested if facts.standby_ready && rotation.emergency => {
            let settles = facts.standby_settles_at.map(|at| at.min(now + KEY_SETTLES));
            let settles = settles.filter(|at| now < *at);
            settles.map_or(Step::Switch, Step::WaitUntil)
        }
        RotationState::Requested if facts.standby_ready => Step::Distribute {
            until: now + timing.keyset_max_age,
        },
        RotationState::Requested => Step::OrderStandby,
        RotationState::Distributing => match waiting(timing.keyset_max_age) {
            Some(due) => Step::WaitUntil(due),
            None if facts.standby_ready => Step::Switch,
            None => Step::Restart,
        },
        RotationState::ReEncrypting => pass_step(facts).unwrap_or(if rotation.canary {
            Step::EndCanary
        } else {
            let grace = now + timing.grace_period;
            Step::BeginGrace {
                until: leased.map_or(grace, |end| end.max(grace)),
            }
        }),
        RotationState::Grace => {
            let leases = leased.and_then(|end| (end - now).to_std().ok());
            let longest = timing.grace_period.max(leases.unwrap_or_default());
            let due = waiting(longest).or(leased);
            due.map_or(Step::BeginVerifying, Step::WaitUntil)
        }
        RotationState::Verifying => match waiting(timing.sweep_every) {
            Some(due) => Step::WaitUntil(due),
            None => pass_step(facts).unwrap_or_else(|| match (facts.census, leased) {
                // Something brings values under an old key back, such as a trigger that restores what was in the table.
                _ if facts.moved > 0 && facts.passes_before >= PASSES_AT_ONCE => Step::SweepAgain {
                    at: now + timing.sweep_every,
                },
                // What a pass wrote itself is opened by the next.
                _ if facts.moved > 0 => Step::SweepAgain {
                    at: leased.map_or(now, |end| end.min(now + timing.sweep_every)),
                },
                (None, Some(end)) => Step::WaitUntil(end),
                _ => verdict(facts, timing, now),
            }),
        },
        _ => Step::Await,
    }
}

/// What the current pass over the ranges still needs; `None` when it is done.
fn pass_step(facts: &Facts) -> Option<Step> {
    if !facts.planned {
        return Some(Step::Plan);
    }
    if facts.open_batches > 0 {
        return Some(Step::Await);
    }
    (facts.failed_batches > 0).then_some(Step::Fail)
}

fn verdict(facts: &Facts, timing: &Timing, now: DateTime<Utc>) -> Step {
    match facts.census {
        None => Step::TakeCensus,
        Some(PassCensus { below_target: 0 }) => Step::Complete,
        Some(_) => Step::SweepAgain {
            at: now + timing.sweep_every,
        },
    }
}

/// What becomes of a request for a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestDecision {
    /// Start a rotation; nothing else is in the way.
    Start,
    /// The live rotation does what was asked.
    Join,
    /// Start one that takes the rows of the present one along.
    Supersede,
}

/// Decides a request by the state of the keyring's latest rotation, if there is one. `true` beside the state: an
/// emergency, which moves every row sooner than a rotation in its place would.
pub fn decide_request(latest: Option<(RotationState, bool)>) -> RequestDecision {
    use RotationState::*;
    match latest {
        Some((state, true)) if state.is_live() => RequestDecision::Join,
        Some((Requested | Distributing | ReEncrypting, _)) => RequestDecision::Join,
        Some((Grace | Verifying | Failed, _)) => RequestDecision::Supersede,
        Some((Completed | Cancelled | Superseded, _)) | None => RequestDecision::Start,
    }
}

#[cfg(test)]
mod model;
