//! Sending planned batches on their way, and writing down that a rotation paused there as it was asked to.

use rekey_domain::{KeyringPolicy, Principal};
use rekey_store::{
    Unit,
    audit::{self, AuditPen, Record},
    batches::{self, Dispatched},
    progress::Unfinished,
    rotations::{Locked, Rotation},
};
use serde_json::json;

use crate::{OperationError, Services};

/// What dispatching a rotation's batches takes. It may ask for keys, so it is made before a unit begins.
pub struct Dispatch {
    concurrency: u32,
    /// Only if the rotation is to pause by itself, as this may be the moment.
    pen: Option<AuditPen>,
}

impl Dispatch {
    /// Of a rotation as it was read, with as many batches in flight as its keyring allows.
    ///
    /// # Errors
    /// As [`Services::pen`].
    pub async fn of(
        services: &Services,
        rotation: &Rotation,
        policy: &KeyringPolicy,
        principal: &Principal,
    ) -> Result<Self, OperationError> {
        let pen = match rotation.pause_after {
            Some(_) => Some(services.pen(principal).await?),
            None => None,
        };
        let concurrency = policy.concurrency_of(rotation.is_emergency());
        Ok(Self { concurrency, pen })
    }

    /// Dispatches what may be in flight; gives what is left of the pass.
    ///
    /// # Errors
    /// [`OperationError::Store`].
    pub async fn run(&self, unit: &Unit, rotation: &Locked) -> Result<Unfinished, OperationError> {
        let Dispatched { left, paused } =
            batches::dispatch(unit, rotation, self.concurrency).await?;
        let Some(why) = paused else {
            return Ok(left);
        };
        let pen = self.pen.as_ref();
        let pen = pen.expect("a rotation is asked to pause when it starts, and never later");
        let subject = rotation.id.to_string();
        let record = Record {
            action: audit::Action::RotationPaused,
            subject: &subject,
            outcome: "done",
            details: json!({ "because": why }),
        };
        pen.append(unit, record).await?;
        tracing::info!(rotation = subject, why, "paused");
        Ok(left)
    }
}
