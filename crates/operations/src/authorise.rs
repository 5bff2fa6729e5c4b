//! Who may do what: checked here and nowhere else.

use rekey_domain::Principal;

use crate::OperationError;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the deployment.
    Init,
    /// Write keyrings, sources and columns.
    Apply,
    /// Ask for a rotation, or retry one.
    Rotate,
    /// Send a message again.
    RetryDeadLetter,
    /// Read the audit log.
    ReadAudit,
    /// Encrypt or decrypt a value by hand.
    UseKeys,
    /// Replace the master key.
    RotateMaster,
    /// Make a key. Workers only.
    MakeKey,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "initialise",
            Self::Apply => "apply configuration",
            Self::Rotate => "ask for a rotation",
            Self::RetryDeadLetter => "retry a dead letter",
            Self::ReadAudit => "read the audit log",
            Self::UseKeys => "encrypt or decrypt",
            Self::RotateMaster => "replace the master key",
            Self::MakeKey => "make a key",
        }
    }
}

/// Refuses what the principal may not do. The account that can open the store and the master key is
/// an operator; workers act for the rows; schedules only ask for rotations; applications ask nothing
/// here.
///
/// # Errors
/// [`OperationError::NotAllowed`] names both.
pub fn authorise(principal: &Principal, action: Action) -> Result<(), OperationError> {
    let kind = principal.as_str().split(':').next().unwrap_or_default();
    let allowed = match kind {
        "os" => action != Action::MakeKey,
        "worker" => matches!(action, Action::MakeKey | Action::Rotate),
        "schedule" => action == Action::Rotate,
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(OperationError::NotAllowed {
        principal: principal.to_string(),
        action: action.name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_may_ask_for_nothing_here() {
        let app = Principal::app("portal");
        for action in [
            Action::Init,
            Action::Apply,
            Action::Rotate,
            Action::RetryDeadLetter,
            Action::RotateMaster,
            Action::MakeKey,
        ] {
            assert!(authorise(&app, action).is_err(), "{action:?}");
        }
    }

    #[test]
    fn only_an_operator_replaces_the_master_key() {
        assert!(authorise(&Principal::os("ana", "clinic"), Action::RotateMaster).is_ok());
        for other in [Principal::worker("rotator"), Principal::app("portal")] {
            assert!(authorise(&other, Action::RotateMaster).is_err());
        }
    }

    #[test]
    fn only_workers_make_keys() {
        assert!(authorise(&Principal::os("ana", "clinic"), Action::MakeKey).is_err());
        assert!(authorise(&Principal::worker("rotator"), Action::MakeKey).is_ok());
    }
}
