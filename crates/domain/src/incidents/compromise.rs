//! What the report of a compromised key leads to, given the key's state and its keyring's latest rotation.

use serde::Serialize;

use crate::{KeyState, RotationKind, RotationState};

/// What a report does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// An incident and nothing else: nothing stands under the key, or nothing may be read under it.
    Note,
    /// It was reported before: what is new is added to that incident.
    Again,
    /// The primary key: another takes its place, and every row is moved.
    Replace {
        /// Whether the rotation under way, or the failed one, leaves its rows to the new one.
        supersede: bool,
    },
    /// A key that was replaced: what is left under it is moved.
    Sweep {
        /// Whether the sweep under way, or the failed rotation, leaves its rows to the new one.
        supersede: bool,
    },
    /// A key that was replaced: the rotation under way moves what is left, and skips every wait that can be skipped.
    Hurry,
    /// The standby that is being distributed: the rotation waits for another.
    Restart,
    /// A standby that waits: another is made.
    OrderStandby,
}

/// Decides for a key that is compromised already: a report that is answered is noted; one whose rotation was cancelled, or
/// waits for nobody's sake, is answered after all.
///
/// `is_answered`: the rotation under way moves what is left under it, and is not on hold. `is_empty`: a census found
/// nothing under it.
pub fn respond_again(
    (is_answered, is_empty): (bool, bool),
    latest: Option<(RotationKind, RotationState)>,
) -> Response {
    match is_answered || is_empty {
        true => Response::Again,
        false => respond(KeyState::Inactive, latest),
    }
}

/// Decides by the key's state, and by the keyring's latest rotation, if it has one.
///
/// A live rotation never gets another target: the rows that it has moved would be below the new target, and no census
/// would count them.
pub fn respond(key: KeyState, latest: Option<(RotationKind, RotationState)>) -> Response {
    use RotationState::*;
    let over = matches!(latest, None | Some((_, Completed | Cancelled | Superseded)));
    match (key, latest) {
        (KeyState::Destroying | KeyState::Destroyed, _) => Response::Note,
        (KeyState::Compromised, _) => Response::Again,
        (KeyState::Pending, Some((_, Distributing))) => Response::Restart,
        (KeyState::Pending, _) => Response::OrderStandby,
        (KeyState::Active, _) => Response::Replace { supersede: !over },
        (KeyState::Inactive, Some((RotationKind::Switch, state))) if state.is_live() => {
            Response::Hurry
        }
        (KeyState::Inactive, _) => Response::Sweep { supersede: !over },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The design's table, cell by cell: primary, replaced, standby.
    #[test]
    fn each_state_of_a_rotation_has_its_answer() {
        use Response::*;
        use RotationKind::{Sweep as OfSweep, Switch};
        use RotationState::*;
        let check = |latest, primary, replaced, standby| {
            assert_eq!(respond(KeyState::Active, latest), primary, "{latest:?}");
            assert_eq!(respond(KeyState::Inactive, latest), replaced, "{latest:?}");
            assert_eq!(respond(KeyState::Pending, latest), standby, "{latest:?}");
        };
        let replace = |supersede| Replace { supersede };
        let sweep = |supersede| Sweep { supersede };
        check(None, replace(false), sweep(false), OrderStandby);
        for kind in RotationKind::ALL {
            for over in [Completed, Cancelled, Superseded] {
                check(
                    Some((kind, over)),
                    replace(false),
                    sweep(false),
                    OrderStandby,
                );
            }
            check(
                Some((kind, Failed)),
                replace(true),
                sweep(true),
                OrderStandby,
            );
        }
        for live in [Requested, ReEncrypting, Grace, Verifying] {
            check(Some((Switch, live)), replace(true), Hurry, OrderStandby);
        }
        check(Some((Switch, Distributing)), replace(true), Hurry, Restart);
        check(
            Some((OfSweep, Verifying)),
            replace(true),
            sweep(true),
            OrderStandby,
        );
    }

    #[test]
    fn a_report_that_nothing_answers_any_more_is_answered_again() {
        use RotationState::*;
        let cancelled = Some((RotationKind::Switch, Cancelled));
        let sweep = Response::Sweep { supersede: false };
        assert_eq!(respond_again((false, false), cancelled), sweep);
        let waits = Some((RotationKind::Switch, Grace));
        assert_eq!(respond_again((false, false), waits), Response::Hurry);
        for done in [(true, false), (false, true)] {
            assert_eq!(respond_again(done, waits), Response::Again);
        }
    }

    #[test]
    fn what_is_superseded_may_be() {
        for (kind, state) in RotationKind::ALL
            .into_iter()
            .flat_map(|kind| RotationState::ALL.map(|state| (kind, state)))
        {
            for key in KeyState::ALL {
                let superseded = matches!(
                    respond(key, Some((kind, state))),
                    Response::Replace { supersede: true } | Response::Sweep { supersede: true }
                );
                assert!(
                    !superseded || state.may_become(RotationState::Superseded),
                    "{state}"
                );
            }
        }
    }

    #[test]
    fn a_key_that_is_gone_or_was_reported_starts_nothing() {
        for state in RotationState::ALL {
            let latest = Some((RotationKind::Switch, state));
            for gone in [KeyState::Destroying, KeyState::Destroyed] {
                assert_eq!(respond(gone, latest), Response::Note);
            }
            assert_eq!(respond(KeyState::Compromised, latest), Response::Again);
        }
    }
}
