//! Who may do what: checked here and nowhere else.

use rekey_domain::{Principal, PrincipalKind};

use crate::OperationError;

/// What can be asked for; a right of its own each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`right` says each in words")]
pub enum Action {
    Init,
    Plan,
    Apply,
    AcceptDatabase,
    RenameColumn,
    ReleaseColumn,
    Rotate,
    Sweep,
    RetryRotation,
    Pause,
    Resume,
    Cancel,
    RetryDeadLetter,
    DismissDeadLetter,
    RetryQuarantined,
    ResolveQuarantined,
    RotateMaster,
    ChangePassphrase,
    UseKeys,
    ReportCompromise,
    HandleIncident,
    ReadIncidents,
    ReadChannels,
    TestChannels,
    ReadStatus,
    ReadWorkers,
    ReadKeys,
    ReadPublishedKeys,
    ReadMaster,
    ReadRotations,
    PlanRotation,
    TakeCensus,
    ReadColumns,
    CheckColumns,
    ReadCertificate,
    ReadQuarantined,
    ReadDeadLetters,
    ReadAudit,
    VerifyAudit,
    MakeKey,
    Sign,
    BackUp,
    RequestBackup,
    ReadBackups,
    PruneBackups,
    SplitRecoveryKey,
    Restore,
}

/// The account that can open the store and the master key.
const OPERATOR: &[PrincipalKind] = &[PrincipalKind::Os];
/// Programs that act for the rows.
const WORKERS: &[PrincipalKind] = &[PrincipalKind::Worker];
/// Schedules too, and users of the broker, each for what its [`Requester`] lists.
const WHO_ROTATES: &[PrincipalKind] = &[
    PrincipalKind::Os,
    PrincipalKind::Worker,
    PrincipalKind::Schedule,
    PrincipalKind::Amqp,
];

/// The verifier, and who makes a deployment.
const WHO_BACKS_UP: &[PrincipalKind] = &[PrincipalKind::Os, PrincipalKind::Worker];
/// People, and users of the broker that may.
const WHO_REPORTS: &[PrincipalKind] = &[PrincipalKind::Os, PrincipalKind::Amqp];

impl Action {
    /// What it is called, and who may. Applications ask nothing here.
    fn right(self) -> (&'static str, &'static [PrincipalKind]) {
        match self {
            Self::Init => ("make the deployment", OPERATOR),
            Self::Plan => ("see what configuration would change", OPERATOR),
            Self::Apply => ("apply configuration", OPERATOR),
            Self::AcceptDatabase => ("accept a database", OPERATOR),
            Self::RenameColumn => ("rename a column", OPERATOR),
            Self::ReleaseColumn => ("release a column", OPERATOR),
            Self::Rotate => ("ask for a rotation", WHO_ROTATES),
            Self::Sweep => ("ask for a sweep", OPERATOR),
            Self::RetryRotation => ("retry a rotation", OPERATOR),
            Self::Pause => ("pause a rotation", OPERATOR),
            Self::Resume => ("resume a rotation", OPERATOR),
            Self::Cancel => ("cancel a rotation", OPERATOR),
            Self::RetryDeadLetter => ("retry a dead letter", OPERATOR),
            Self::DismissDeadLetter => ("dismiss a dead letter", OPERATOR),
            Self::RetryQuarantined => ("retry values in quarantine", OPERATOR),
            Self::ResolveQuarantined => ("resolve a value in quarantine", OPERATOR),
            Self::RotateMaster => ("replace the master key", OPERATOR),
            Self::ChangePassphrase => ("change the passphrase", OPERATOR),
            Self::UseKeys => ("encrypt or decrypt", OPERATOR),
            Self::ReportCompromise => ("report a compromised key", WHO_REPORTS),
            Self::HandleIncident => ("take up or resolve an incident", OPERATOR),
            Self::ReadIncidents => ("list incidents and alerts", OPERATOR),
            Self::ReadChannels => ("list channels", OPERATOR),
            Self::TestChannels => ("try a channel out", OPERATOR),
            Self::ReadStatus => ("read the status", OPERATOR),
            Self::ReadWorkers => ("list workers", OPERATOR),
            Self::ReadKeys => ("list keys", OPERATOR),
            Self::ReadPublishedKeys => ("read the keys that verify certificates", OPERATOR),
            Self::ReadMaster => ("read what is known of the master key", OPERATOR),
            Self::ReadRotations => ("list rotations", OPERATOR),
            Self::PlanRotation => ("see what a rotation would do", OPERATOR),
            Self::TakeCensus => ("take a census", OPERATOR),
            Self::ReadColumns => ("list protected columns", OPERATOR),
            Self::CheckColumns => ("check protected columns", OPERATOR),
            Self::ReadCertificate => ("read a certificate", OPERATOR),
            Self::ReadQuarantined => ("list values in quarantine", OPERATOR),
            Self::ReadDeadLetters => ("list dead letters", OPERATOR),
            Self::ReadAudit => ("read the audit log", OPERATOR),
            Self::VerifyAudit => ("verify the audit log", OPERATOR),
            Self::MakeKey => ("make a key", WORKERS),
            Self::Sign => ("sign a certificate", WORKERS),
            Self::BackUp => ("back keys up", WHO_BACKS_UP),
            Self::RequestBackup => ("ask for backups", WHO_REPORTS),
            Self::PruneBackups => ("take old backups away", OPERATOR),
            Self::ReadBackups => ("list backups", OPERATOR),
            Self::SplitRecoveryKey => ("make a RECOVERY key", OPERATOR),
            Self::Restore => ("restore keys", OPERATOR),
        }
    }
}

/// Refuses what the principal may not do.
///
/// # Errors
/// [`OperationError::NotAllowed`] names both.
pub fn authorise(principal: &Principal, action: Action) -> Result<(), OperationError> {
    let (name, who) = action.right();
    if who.contains(&principal.kind) {
        return Ok(());
    }
    Err(OperationError::NotAllowed {
        principal: principal.to_string(),
        action: name,
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
            Requester::find(&listed, user).is_ok_and(|found| found.authorise(type_).is_ok())
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
