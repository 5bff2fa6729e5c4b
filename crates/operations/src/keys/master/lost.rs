//! Whether the KMS still opens the store's keys: under each master key, one of them must open.

use std::{collections::BTreeMap, fmt};

use rekey_envelope::CheckValue;
use rekey_kms::{KmsError, WrappedKey};
use rekey_store::{
    keyrings,
    keys::{self, StoredKey},
};
use uuid::Uuid;

use crate::{OperationError, Services, keys::making::encryption_context};

/// Keys under one master key, none of which opens.
pub(crate) struct Unopened {
    place: String,
    master_key: Option<String>,
    keys: usize,
    error: KmsError,
}

/// The master keys under which no key of the store opens. One key that opens is enough: a single altered key is found
/// when it is used.
///
/// # Errors
/// [`OperationError::Store`].
pub(crate) async fn unopened(services: &Services) -> Result<Vec<Unopened>, OperationError> {
    let mut of_master_keys = BTreeMap::<_, Vec<_>>::new();
    for key in keys::wrapped(services.store.db()).await? {
        let under = of_master_keys.entry(key.master_key.clone()).or_default();
        under.push(key);
    }
    let mut unopened = Vec::new();
    for (master_key, mut keys) in of_master_keys {
        keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
        if let Opens::No(error) = open_one(services, &keys).await? {
            let keys = keys.len();
            unopened.push(Unopened {
                place: services.kms.place(),
                master_key,
                keys,
                error,
            });
        }
    }
    Ok(unopened)
}

/// Refuses to go on where a master key is lost: whatever is made then would hide it.
///
/// # Errors
/// [`OperationError::Refused`] says which and how to restore it; [`OperationError::Kms`] where it may
/// be there and cannot be asked.
pub async fn refuse_lost(services: &Services) -> Result<(), OperationError> {
    let unopened = unopened(services).await?;
    if let Some(lost) = unopened.iter().find(|one| one.is_lost()) {
        return Err(OperationError::Refused(lost.to_string()));
    }
    match unopened.into_iter().next() {
        Some(away) => Err(away.error.into()),
        None => Ok(()),
    }
}

/// Whether a key opens.
enum Opens {
    Yes,
    No(KmsError),
}

async fn open_one(services: &Services, keys: &[StoredKey]) -> Result<Opens, OperationError> {
    let deployment = keyrings::deployment(services.store.db()).await?;
    let mut first = Opens::Yes;
    for key in keys {
        match open(services, deployment, key).await? {
            Opens::No(error) if is_of_the_key(&error) => {
                if matches!(first, Opens::Yes) {
                    first = Opens::No(error);
                }
            }
            opens => return Ok(opens),
        }
    }
    Ok(first)
}

async fn open(
    services: &Services,
    deployment: Uuid,
    key: &StoredKey,
) -> Result<Opens, OperationError> {
    let keyring = keyrings::by_id(services.store.db(), key.keyring_id).await?;
    let context = encryption_context(deployment, &keyring, key.id);
    let wrapped = WrappedKey::from(key.wrapped.clone().unwrap_or_default());
    let expected = CheckValue::try_from(key.check_value.as_slice());
    let opened = services.kms.decrypt(&wrapped, &context).await;
    Ok(match (opened, expected) {
        (Err(error), _) => Opens::No(error),
        (Ok(material), Ok(expected)) if expected.matches(&material) => Opens::Yes,
        (Ok(_), _) => Opens::No(KmsError::WrongContext { key_id: key.id }),
    })
}

/// Whether only this key failed, so that the next one may still open.
fn is_of_the_key(error: &KmsError) -> bool {
    use KmsError::{ForeignMasterKey, NotWrappedKey, WrongContext};
    matches!(
        error,
        WrongContext { .. } | NotWrappedKey { .. } | ForeignMasterKey { .. }
    )
}

impl Unopened {
    /// Whether the master key is not there, rather than out of reach or forbidden.
    fn is_lost(&self) -> bool {
        is_of_the_key(&self.error)
            || matches!(self.error, KmsError::UnknownMasterKey { .. })
            || is_missing(&self.error)
    }
}

/// Whether a file of master keys is not there.
fn is_missing(error: &KmsError) -> bool {
    use rekey_kms::KeyFileProblem::Missing;
    matches!(
        error,
        KmsError::KeyFile {
            problem: Missing,
            ..
        }
    )
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place, keys, error, ..
        } = self;
        let master_key = self.master_key.as_deref().unwrap_or("(not known)");
        write!(
            f,
            "the {keys} key(s) under master key {master_key} cannot be opened in {place}: {error}"
        )?;
        if !self.is_lost() {
            return Ok(());
        }
        f.write_str("; no value under them can be read until it is back: restore the master key from its copy, or let [kms] name where it is (docs/restore.md)")
    }
}
