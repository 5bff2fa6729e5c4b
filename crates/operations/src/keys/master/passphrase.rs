//! The passphrase that seals the local KMS's master key file: set, replaced, taken away.

use rekey_domain::Principal;
use rekey_kms::{LocalKms, Passphrase};
use rekey_store::audit::{self, Record};
use serde_json::json;

use super::append;
use crate::{Action, OperationError, Services, authorise};

/// Seals the file of `kms` with `new` from now on; with none it lies open.
///
/// # Errors
/// [`OperationError::Refused`] where the master key is not in a file; [`OperationError::Kms`] if the
/// file cannot be read or written, and is as it was.
pub async fn change_passphrase(
    services: &Services,
    kms: Option<LocalKms>,
    new: Option<Passphrase>,
    principal: &Principal,
) -> Result<(), OperationError> {
    authorise(principal, Action::ChangePassphrase)?;
    let Some(mut kms) = kms else {
        return Err(OperationError::Refused(
            "the master key is in AWS KMS, which needs no passphrase".to_owned(),
        ));
    };
    let master_key = services.kms.describe().await?.id;
    let sealed = new.is_some();
    let record = |outcome| Record {
        action: audit::Action::MasterKeyPassphraseChanged,
        subject: &master_key,
        outcome,
        details: json!({ "sealed": sealed }),
    };
    append(services, record("started"), principal).await?;
    kms.change_passphrase(new).await?;
    append(services, record("done"), principal).await
}
