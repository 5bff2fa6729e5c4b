//! A step of a rotation works under the rotation's lease, and its effect is one unit.

use chrono::{DateTime, Utc};
use rekey_domain::Worker;
use rekey_messages::RotationDue;
use rekey_operations::{Dispatch, OperationError, Services};
use rekey_runtime::Job;
use rekey_store::{
    Unit,
    keyrings::Keyring,
    leases::{self, Lease},
    rotations::Rotation,
};

/// One step being carried out, under the rotation's lease.
pub struct Advance<'a> {
    pub services: &'a Services,
    pub job: &'a Job,
    pub rotation: Rotation,
    pub keyring: Keyring,
    /// When nobody may write under a key before the primary any more, at the latest.
    pub leases_end: Option<DateTime<Utc>>,
    pub lease: Lease,
}

impl Advance<'_> {
    /// Begins the unit of the step's effect, which depends on still holding the lease; `None` where
    /// this message took effect before.
    pub async fn begin(&self) -> Result<Option<Unit>, OperationError> {
        let Some(unit) = self.job.begin().await? else {
            return Ok(None);
        };
        leases::release(&unit, &self.lease).await?;
        Ok(Some(unit))
    }

    /// What dispatching takes, made before the unit begins.
    pub async fn dispatch(&self) -> Result<Dispatch, OperationError> {
        let principal = Worker::Rotator.principal();
        Dispatch::of(
            self.services,
            &self.rotation,
            &self.keyring.policy,
            &principal,
        )
        .await
    }

    /// Whoever looks at the rotation next.
    pub fn due(&self) -> RotationDue {
        RotationDue {
            rotation: self.rotation.id,
        }
    }
}
