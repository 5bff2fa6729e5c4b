//! The master key as people see it: its state, and which keys are under which.

use rekey_domain::Principal;
use std::collections::BTreeMap;

use rekey_store::keys;
use serde::Serialize;

use crate::{Action, OperationError, Services, authorise};

/// The master key that wraps now, and what is under which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MasterView {
    /// Who holds it.
    pub provider: &'static str,
    /// The master key that wraps now.
    pub master_key: String,
    /// Its state.
    pub state: String,
    /// Keys by master key, the current one first even if nothing is under it.
    pub keys: Vec<KeysUnder>,
}

/// The keys under one master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysUnder {
    /// The master key; none: keys of which it is not known, as an older program stored them.
    pub master_key: Option<String>,
    /// It is the one that wraps now.
    pub current: bool,
    /// How many keys.
    pub keys: u64,
}

/// Asks the KMS for its master key, and the store what is under which.
///
/// # Errors
/// [`OperationError::Kms`] or [`OperationError::Store`].
pub async fn master_view(
    services: &Services,
    principal: &Principal,
) -> Result<MasterView, OperationError> {
    authorise(principal, Action::ReadMaster)?;
    let current = services.kms.describe().await?;
    let mut counts = BTreeMap::from([(Some(current.id.clone()), 0)]);
    for key in keys::wrapped(services.store.db()).await? {
        *counts.entry(key.key.master_key).or_default() += 1;
    }
    let counted = counts.into_iter().map(|(master_key, keys)| KeysUnder {
        current: master_key.as_ref() == Some(&current.id),
        master_key,
        keys,
    });
    let mut keys: Vec<_> = counted.collect();
    keys.sort_by_key(|under| !under.current);
    Ok(MasterView {
        provider: current.provider,
        state: current.state.to_string(),
        master_key: current.id,
        keys,
    })
}
