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
    /// Be done with a message that is not to be sent again.
    DismissDeadLetter,
    /// Be done with a value in quarantine.
    ResolveQuarantined,
    /// Have values in quarantine tried again.
    RetryQuarantined,
    /// Read the audit log.
    ReadAudit,
    /// Encrypt or decrypt a value by hand.
    UseKeys,
    /// Replace the master key.
    RotateMaster,
    /// Make a key. Workers only.
    MakeKey,
    /// Sign a certificate. Workers only.
    Sign,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "initialise",
            Self::Apply => "apply configuration",
            Self::Rotate => "ask for a rotation",
            Self::RetryDeadLetter => "retry a dead letter",
            Self::DismissDeadLetter => "dismiss a dead letter",
            Self::ResolveQuarantined => "resolve a value in quarantine",
            Self::RetryQuarantined => "retry values in quarantine",
            Self::ReadAudit => "read the audit log",
            Self::UseKeys => "encrypt or decrypt",
            Self::RotateMaster => "replace the master key",
            Self::MakeKey => "make a key",
            Self::Sign => "sign a certificate",
        }
    }
}

/// Refuses what the principal may not do. The account that can open the store and the master key is
/// an operator; workers act for the rows; schedules only ask for rotations, as do users of the broker,
/// each for what its [`Requester`] lists; applications ask nothing here.
///
/// # Errors
/// [`OperationError::NotAllowed`] names both.
pub fn authorise(principal: &Principal, action: Action) -> Result<(), OperationError> {
    let kind = principal.as_str().split(':').next().unwrap_or_default();
    let allowed = match kind {
        "os" => !matches!(action, Action::MakeKey | Action::Sign),
        "worker" => matches!(action, Action::MakeKey | Action::Sign | Action::Rotate),
        "schedule" | "amqp" => action == Action::Rotate,
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

/// Who may publish requests to the message broker: a `[[principal]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// What it is called here.
    pub principal: Principal,
    /// The broker's user.
    pub amqp_user: String,
    /// The types of event it may publish.
    pub may: Vec<&'static str>,
}

impl Requester {
    /// Who the broker's user is, as the broker vouches for it.
    ///
    /// # Errors
    /// [`OperationError::Refused`] for nobody and for a stranger.
    pub fn find<'a>(
        requesters: &'a [Self],
        amqp_user: Option<&str>,
    ) -> Result<&'a Self, OperationError> {
        let user = amqp_user.ok_or_else(|| {
            refused("the message has no user-id; publish it with the name of the broker's user")
        })?;
        let found = requesters.iter().find(|one| one.amqp_user == user);
        found.ok_or_else(|| refused("no [[principal]] has this amqp_user"))
    }

    /// Refuses events of a type that it may not publish.
    ///
    /// # Errors
    /// [`OperationError::Refused`] names the key that would allow it.
    pub fn authorise(&self, type_: &str) -> Result<(), OperationError> {
        if self.may.contains(&type_) {
            return Ok(());
        }
        Err(refused(
            "its [[principal]] may not publish events of this type",
        ))
    }
}

fn refused(why: &str) -> OperationError {
    OperationError::Refused(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_may_publish_what_is_listed_and_nobody_else_anything() {
        let siem = Requester {
            principal: Principal::amqp("siem"),
            amqp_user: "siem-user".to_owned(),
            may: vec!["rekey.rotation.requested.v1"],
        };
        let listed = [siem];
        let may = |user: Option<&str>, type_| {
            Requester::find(&listed, user).is_ok_and(|siem| siem.authorise(type_).is_ok())
        };
        assert!(may(Some("siem-user"), "rekey.rotation.requested.v1"));
        assert!(!may(Some("siem-user"), "rekey.key.compromised.v1"));
        for nobody in [None, Some("siem"), Some(""), Some("admin")] {
            assert!(!may(nobody, "rekey.rotation.requested.v1"), "{nobody:?}");
        }
    }

    #[test]
    fn a_user_of_the_broker_may_ask_for_rotations_only() {
        let siem = Principal::amqp("siem");
        assert!(authorise(&siem, Action::Rotate).is_ok());
        for action in [
            Action::Init,
            Action::Apply,
            Action::MakeKey,
            Action::UseKeys,
        ] {
            assert!(authorise(&siem, action).is_err(), "{action:?}");
        }
    }

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
    fn only_workers_make_keys_and_sign() {
        for action in [Action::MakeKey, Action::Sign] {
            assert!(authorise(&Principal::os("ana", "clinic"), action).is_err());
            assert!(authorise(&Principal::app("portal"), action).is_err());
            assert!(authorise(&Principal::worker("rotator"), action).is_ok());
        }
    }
}
