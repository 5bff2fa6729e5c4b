//! A request that is carried out: authorised, in one unit, and never without its entry in the audit log.

use rekey_domain::Principal;
use rekey_store::{
    Unit,
    audit::{self, AuditPen, Record},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Action, OperationError, Services, authorise};

/// A unit that someone's request is carried out in. Dropped, nothing was done.
pub(crate) struct Audited {
    /// What is changed is changed in here.
    pub unit: Unit,
    pen: AuditPen,
}

impl Audited {
    /// Begins what `principal` asks for.
    ///
    /// # Errors
    /// [`OperationError::NotAllowed`], and any other where no entry could be written (rule 8).
    pub async fn begin(
        services: &Services,
        principal: &Principal,
        action: Action,
    ) -> Result<Self, OperationError> {
        authorise(principal, action)?;
        // Before the unit, as it may ask for keys.
        let pen = services.pen(principal).await?;
        let unit = services.store.begin().await?;
        Ok(Self { unit, pen })
    }

    /// Commits it, with what the audit log says of it.
    ///
    /// # Errors
    /// [`OperationError::Store`]; then nothing was done.
    pub async fn commit(
        self,
        action: audit::Action,
        subject: &str,
        details: Value,
    ) -> Result<(), OperationError> {
        let record = Record {
            action,
            subject,
            outcome: "done",
            details,
        };
        self.pen.append(&self.unit, record).await?;
        Ok(self.unit.commit().await?)
    }
}

/// The subject of an entry about several things: the one, or how many.
pub(crate) fn several(ids: &[Uuid], what: &str) -> String {
    match ids {
        [one] => one.to_string(),
        ids => format!("{} {what}", ids.len()),
    }
}

/// The reason that someone gave, without white space around it.
///
/// # Errors
/// [`OperationError::Refused`] without a reason, as the audit log keeps it.
pub(crate) fn reason<'a>(because: &'a str, done: &str) -> Result<&'a str, OperationError> {
    let because = because.trim();
    if because.is_empty() {
        let why = format!("{done} for a reason, which goes into the audit log; say it");
        return Err(OperationError::Refused(why));
    }
    Ok(because)
}
