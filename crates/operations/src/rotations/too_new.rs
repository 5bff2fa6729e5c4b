//! Values under a key that is a standby here. No program encrypts under one, so this store is older than the data:
//! a copy that was restored. Nobody can read them until that key is the primary.

use std::collections::{BTreeMap, HashMap};

use rekey_domain::{Finding, Found, KeyId, KeyName, KeyState};

use crate::{OperationError, Services, keys};

/// Keys that are standbys. To be asked after values were counted: a key may become the primary meanwhile.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn standby_keys(services: &Services) -> Result<HashMap<KeyId, KeyName>, OperationError> {
    let mut views = keys::views::all(services).await?;
    views.retain(|view| view.state == KeyState::Pending);
    let keys = views.into_iter().map(|view| (view.key_id, view.key));
    Ok(keys.collect())
}

/// What was counted under standbys, as findings about `subject`.
pub fn too_new_values(
    subject: &str,
    counts: impl IntoIterator<Item = (Found, u64)>,
    standbys: &HashMap<KeyId, KeyName>,
) -> Vec<Finding> {
    let mut under: BTreeMap<&KeyName, u64> = BTreeMap::new();
    for (found, values) in counts {
        if let Found::Key(id) = found
            && let Some(key) = standbys.get(&id)
        {
            *under.entry(key).or_default() += values;
        }
    }
    let finding = |(key, values): (&KeyName, u64)| {
        let keyring = &key.keyring;
        let problem = format!(
            "{values} value(s) stand under {key}, a standby here, and cannot be read: this store is older than the data, such as a copy that was restored. If there is no newer copy: rekey rotate {keyring}, which makes {key} the primary, and look again"
        );
        Finding::person(subject, problem)
    };
    under.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_under_a_standby_is_too_new() {
        let (standby, other) = (KeyId::new(3), KeyId::new(2));
        let name: KeyName = "phi/3".parse().unwrap();
        let standbys = HashMap::from([(standby, name)]);
        let fine = [(Found::Key(other), 7), (Found::NotCiphertext, 1)];
        assert!(too_new_values("column c", fine, &standbys).is_empty());
        let late = [(Found::Key(standby), 2), (Found::Key(other), 7)];
        let findings = too_new_values("column c", late, &standbys);
        assert_eq!(findings.len(), 1);
        for said in ["2 value(s)", "phi/3", "rekey rotate phi,"] {
            assert!(findings[0].problem.contains(said), "{findings:?}");
        }
    }
}
