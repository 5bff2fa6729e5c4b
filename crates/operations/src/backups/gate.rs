//! The proof with which a key's first use is let through.

use rekey_domain::BackupProof;
use rekey_store::{backups, keyrings::Keyring, keys::Key};

use crate::{OperationError, Services};

/// The proof that a key may become its keyring's primary, if there is one.
///
/// # Errors
/// [`OperationError::Store`].
pub(crate) async fn gate(
    services: &Services,
    keyring: &Keyring,
    key: &Key,
) -> Result<Option<BackupProof>, OperationError> {
    let db = services.store.db();
    Ok(backups::proof_of(db, keyring.policy.backup, key.id).await?)
}
