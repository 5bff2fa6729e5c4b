//! `certificate.wanted`: signs the certificate of a completed rotation, or puts that off.

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::Worker;
use rekey_messages::CertificateWanted;
use rekey_operations::{OperationError, Services, certificates::sign_certificate};
use rekey_runtime::{Handler, Job, JobError};
use rekey_store::{
    audit::{self, Record},
    certificates,
    rotations::{self, Rotation},
};
use serde_json::json;

/// The scheduler asks again after this, whatever message was lost (rule 2) or key could not be used.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Signs certificates.
pub struct SignCertificate {
    pub services: Services,
}

#[async_trait]
impl Handler for SignCertificate {
    type Command = CertificateWanted;
    const NAME: &'static str = "rotator.sign";

    async fn handle(&self, command: CertificateWanted, job: &Job) -> Result<(), JobError> {
        let rotation = rotations::by_id(self.services.store.db(), command.rotation).await?;
        if rotation.certificate_due.is_none() {
            return Ok(());
        }
        match self.sign(&rotation, job).await {
            Err(OperationError::Store(error)) => Err(error.into()),
            Err(error) => self.put_off(&rotation, &error, job).await,
            Ok(()) => Ok(()),
        }
    }
}

impl SignCertificate {
    async fn sign(&self, rotation: &Rotation, job: &Job) -> Result<(), OperationError> {
        let principal = Worker::Rotator.principal();
        let signed = sign_certificate(&self.services, rotation, &principal).await?;
        let pen = self.services.pen(&principal).await?;
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        if !certificates::sign(&unit, rotation, &signed.jws).await? {
            // Another signed it at the same time.
            return Ok(unit.commit().await?);
        }
        let subject = rotation.id.to_string();
        let record = Record {
            action: audit::Action::CertificateSigned,
            subject: &subject,
            outcome: "done",
            details: json!({ "signed_by": signed.signed_by }),
        };
        pen.append(&unit, record).await?;
        unit.commit().await?;
        let key = signed.signed_by.key;
        tracing::info!(rotation = %rotation.id, %key, "certificate signed");
        Ok(())
    }

    /// Puts the signature off, whatever stands in its way. The rotation is over and its row says that a signature is
    /// missing, so this message is done and the scheduler sends another.
    async fn put_off(
        &self,
        rotation: &Rotation,
        error: &OperationError,
        job: &Job,
    ) -> Result<(), JobError> {
        let Some(unit) = job.begin().await? else {
            return Ok(());
        };
        certificates::put_off(&unit, rotation, unit.database_time_in(LOOK_AGAIN)).await?;
        unit.commit().await?;
        tracing::warn!(rotation = %rotation.id, %error, "the certificate stays unsigned for now");
        Ok(())
    }
}
