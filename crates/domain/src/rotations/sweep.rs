//! A sweep: a rotation without a switch. It moves rows to the primary key that there is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::RotationState;

/// Whether a rotation replaces the primary key.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_rotation_kind)]
pub enum RotationKind {
    /// It does, and moves all rows to the new one.
    #[default]
    Switch,
    /// It does not: the rows that it is about and that are below the primary key move to that.
    Sweep,
}

fn no_rotation_kind(text: &str) -> String {
    format!("kind of rotation {text:?} is not one of ours")
}

impl RotationKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Switch, Self::Sweep];

    /// The state it starts in. A sweep is what [`RotationState::Verifying`] is made of: passes over
    /// the rows, each ending in a census. It waits for no standby, and no client has to refresh.
    pub fn starts_in(self) -> RotationState {
        match self {
            Self::Switch => RotationState::Requested,
            Self::Sweep => RotationState::Verifying,
        }
    }

    /// The state it goes on in when it failed in its first pass, or in a later one.
    pub fn retried_in(self, first_pass: bool) -> RotationState {
        match self {
            Self::Switch if first_pass => RotationState::ReEncrypting,
            _ => RotationState::Verifying,
        }
    }

    /// What people call one.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Switch => "rotation",
            Self::Sweep => "sweep",
        }
    }
}

/// What becomes of a request for a sweep. There is one live rotation a keyring, and a sweep never
/// takes the place of one that made a switch: that one still has to wait out its grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepDecision {
    /// Start one; nothing else is in the way.
    Start,
    /// The live rotation reads all rows below its target again, after its grace period.
    Join,
    /// The live rotation may have read those rows already: it begins another pass at once.
    AnotherPass,
    /// Start one that takes the rows of the present sweep along.
    Supersede,
    /// A rotation that failed after its switch is retried first; its next pass reads them again.
    RetryFirst,
}

/// Decides a request for a sweep by the keyring's latest rotation, if it has one.
pub fn decide_sweep(latest: Option<(RotationKind, RotationState)>) -> SweepDecision {
    use RotationState::*;
    match latest {
        None | Some((_, Completed | Cancelled | Superseded)) => SweepDecision::Start,
        Some((RotationKind::Sweep, _)) => SweepDecision::Supersede,
        Some((_, Requested | Distributing | ReEncrypting | Grace)) => SweepDecision::Join,
        Some((_, Verifying)) => SweepDecision::AnotherPass,
        Some((_, Failed)) => SweepDecision::RetryFirst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestDecision, decide_request};

    #[test]
    fn a_request_for_a_rotation_never_joins_a_sweep_which_makes_no_switch() {
        for state in [RotationKind::Sweep.starts_in(), RotationState::Failed] {
            assert_eq!(
                decide_request(Some((state, false))),
                RequestDecision::Supersede
            );
        }
    }

    #[test]
    fn a_sweep_never_takes_the_place_of_a_rotation_that_made_a_switch() {
        for state in RotationState::ALL {
            let decision = decide_sweep(Some((RotationKind::Switch, state)));
            let over = !state.is_live() && state != RotationState::Failed;
            assert_eq!(decision == SweepDecision::Start, over, "{state}");
            assert_ne!(decision, SweepDecision::Supersede, "{state}");
        }
    }

    #[test]
    fn of_two_sweeps_the_later_takes_the_rows_of_the_other_along() {
        let decide = |state| decide_sweep(Some((RotationKind::Sweep, state)));
        for state in [RotationState::Verifying, RotationState::Failed] {
            assert_eq!(decide(state), SweepDecision::Supersede);
        }
        assert_eq!(decide(RotationState::Completed), SweepDecision::Start);
        assert_eq!(decide_sweep(None), SweepDecision::Start);
    }

    #[test]
    fn a_kind_reads_as_it_is_written() {
        for kind in RotationKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("Sweep".parse::<RotationKind>().is_err());
    }
}
