//! Keys: made as standby, switched to primary, counted.

use rekey_domain::{
    Algorithm, BackupProof, HARD_LIMIT, KeyId, KeyName, KeyState, KeyringPolicy, UsageBlock,
    take_block,
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, LockType},
};
use uuid::Uuid;

pub use crate::entities::key::Model as Key;
use crate::{
    StoreError, Unit,
    entities::{key, keyring},
    keyrings::{self, Keyring},
    stored::Text,
};

/// A key that was generated and wrapped, not yet stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its random id.
    pub id: KeyId,
    /// How it encrypts, for good.
    pub algorithm: Algorithm,
    /// Wrapped by the master key.
    pub wrapped: Vec<u8>,
    /// The master key that wrapped it.
    pub master_key: String,
    /// Compared at every unwrap.
    pub check_value: Vec<u8>,
    /// The public half of a key that signs.
    pub public_key: Option<Vec<u8>>,
}

impl Key {
    /// Its id in ciphertext.
    pub fn id(&self) -> KeyId {
        KeyId::new(
            u32::try_from(self.key_id).expect("the column holds only key ids, which have 32 bits"),
        )
    }

    /// Its version in its keyring.
    pub fn version(&self) -> u32 {
        u32::try_from(self.version).expect("versions count from 1")
    }

    /// Its name for people.
    pub fn name(&self, keyring: &Keyring) -> KeyName {
        KeyName {
            keyring: keyring.name.0.clone(),
            version: self.version(),
        }
    }
}

/// All keys of a keyring, first version first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_keyring(db: &impl ConnectionTrait, keyring: Uuid) -> Result<Vec<Key>, StoreError> {
    let keys = key::Entity::find().filter(key::Column::KeyringId.eq(keyring));
    Ok(keys.order_by_asc(key::Column::Version).all(db).await?)
}

/// The keyring's standby key: the lowest pending version.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn standby(db: &impl ConnectionTrait, keyring: Uuid) -> Result<Option<Key>, StoreError> {
    Ok(of_keyring(db, keyring)
        .await?
        .into_iter()
        .find(|key| key.state.0 == KeyState::Pending))
}

/// The key with this id, of whatever keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(db: &impl ConnectionTrait, id: KeyId) -> Result<Option<Key>, StoreError> {
    Ok(key::Entity::find_by_id(i64::from(id.value()))
        .one(db)
        .await?)
}

/// Every key that still has wrapped material, of every keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn wrapped(db: &impl ConnectionTrait) -> Result<Vec<Key>, StoreError> {
    let keys = key::Entity::find().filter(key::Column::Wrapped.is_not_null());
    Ok(keys.order_by_asc(key::Column::KeyId).all(db).await?)
}

/// Replaces a key's wrapped material by the same key under `master_key`. The caller has seen that it
/// unwraps to the same key; its check value stays.
///
/// # Errors
/// [`StoreError::Stale`] where it was wrapped anew or erased meanwhile.
pub async fn rewrap(
    unit: &Unit,
    key: &Key,
    wrapped: Vec<u8>,
    master_key: &str,
) -> Result<(), StoreError> {
    let row = key::ActiveModel {
        wrapped: Set(Some(wrapped)),
        master_key: Set(Some(master_key.to_owned())),
        ..Default::default()
    };
    let changed = key::Entity::update_many()
        .set(row)
        .filter(key::Column::KeyId.eq(key.key_id))
        .filter(key::Column::Wrapped.eq(key.wrapped.clone()))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id()))
}

/// Stores a key as its keyring's standby.
///
/// # Errors
/// [`StoreError::Stale`] when the id is taken, or when the keyring's algorithm changed since the key
/// was made: another key is to be made.
pub async fn insert_standby(unit: &Unit, keyring: Uuid, new: NewKey) -> Result<Key, StoreError> {
    let locked = keyrings::lock(unit, keyring).await?;
    if locked.algorithm.0 != new.algorithm {
        let what = format!("the algorithm of keyring {}", locked.name.0);
        return Err(StoreError::Stale { what });
    }
    let last = of_keyring(unit.db(), keyring)
        .await?
        .last()
        .map_or(0, |key| key.version);
    let row = key::ActiveModel {
        key_id: Set(i64::from(new.id.value())),
        keyring_id: Set(keyring),
        version: Set(last + 1),
        state: Set(Text(KeyState::Pending)),
        algorithm: Set(Text(new.algorithm)),
        wrapped: Set(Some(new.wrapped)),
        check_value: Set(new.check_value),
        used: Set(0),
        used_by_applications: Set(0),
        created_at: Set(unit.now()),
        activated_at: Set(None),
        deactivated_at: Set(None),
        expires_at: Set(None),
        master_key: Set(Some(new.master_key)),
        public_key: Set(new.public_key),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("key {}", new.id));
    row.insert(unit.db()).await.map_err(taken)
}

/// Has standbys of other algorithms than `algorithm` destroyed unused, and gives them. Their versions
/// and ids are never used again.
///
/// # Errors
/// [`StoreError::Stale`] where one became primary meanwhile.
pub async fn retire_standbys(
    unit: &Unit,
    keyring: Uuid,
    algorithm: Algorithm,
) -> Result<Vec<Key>, StoreError> {
    keyrings::lock(unit, keyring).await?;
    let mut waiting = of_keyring(unit.db(), keyring).await?;
    waiting.retain(|key| key.state.0 == KeyState::Pending && key.algorithm.0 != algorithm);
    for key in &waiting {
        change_state(unit, key, KeyState::Destroying, Default::default()).await?;
    }
    Ok(waiting)
}

/// The switch: the standby becomes primary, the primary inactive, in one unit.
///
/// # Errors
/// [`StoreError::Refused`] where the backup gate or the state machine says no,
/// [`StoreError::Stale`] where a state changed meanwhile.
pub async fn switch(
    unit: &Unit,
    keyring: &Keyring,
    standby: &Key,
    policy: &KeyringPolicy,
    proof: Option<BackupProof>,
) -> Result<(), StoreError> {
    keyrings::lock(unit, keyring.id).await?;
    let required = policy.backup == rekey_domain::BackupPolicy::Required;
    standby
        .state
        .0
        .activate(required, proof)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    let primary = of_keyring(unit.db(), keyring.id)
        .await?
        .into_iter()
        .find(|key| key.state.0 == KeyState::Active);
    if let Some(old) = primary {
        let stamp = key::ActiveModel {
            deactivated_at: Set(Some(unit.now())),
            ..Default::default()
        };
        change_state(unit, &old, KeyState::Inactive, stamp).await?;
    }
    let stamp = key::ActiveModel {
        activated_at: Set(Some(unit.now())),
        expires_at: Set(Some(unit.now() + policy.key_lifetime)),
        ..Default::default()
    };
    change_state(unit, standby, KeyState::Active, stamp).await?;
    let row = keyring::ActiveModel {
        id: Set(keyring.id),
        primary_key_id: Set(Some(standby.key_id)),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(())
}

async fn change_state(
    unit: &Unit,
    key: &Key,
    next: KeyState,
    mut stamp: key::ActiveModel,
) -> Result<(), StoreError> {
    let state = key
        .state
        .0
        .become_state(next)
        .map_err(|error| StoreError::Refused(error.to_string()))?;
    stamp.state = Set(Text(state));
    let changed = key::Entity::update_many()
        .set(stamp)
        .filter(key::Column::KeyId.eq(key.key_id))
        .filter(key::Column::State.eq(key.state.clone()))
        .exec(unit.db())
        .await?;
    one_changed(changed.rows_affected, || format!("key {}", key.id()))
}

fn one_changed(rows: u64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Stale { what: what() })
    }
}

/// Takes a block of encryptions from a key's budget (SP 800-38D §8.3).
///
/// # Errors
/// [`StoreError::Refused`] when the budget is spent.
pub async fn take_usage(
    unit: &Unit,
    id: KeyId,
    wanted: u64,
    by_application: bool,
) -> Result<UsageBlock, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("key {id}"),
        known: Vec::new(),
    };
    let key = key::Entity::find_by_id(i64::from(id.value()))
        .lock(LockType::Update)
        .one(unit.db())
        .await?
        .ok_or_else(unknown)?;
    let used = u64::try_from(key.used).unwrap_or(HARD_LIMIT);
    let block = take_block(used, wanted).map_err(|error| StoreError::Refused(error.to_string()))?;
    let size = i64::try_from(block.size).expect("blocks are at most 2^20");
    let by_applications = if by_application { size } else { 0 };
    use key::Column::{KeyId as Id, Used, UsedByApplications};
    let taken = key::Entity::update_many()
        .col_expr(Used, Expr::col(Used).add(size))
        .col_expr(
            UsedByApplications,
            Expr::col(UsedByApplications).add(by_applications),
        )
        .filter(Id.eq(key.key_id))
        .filter(Used.eq(key.used))
        .exec(unit.db())
        .await?;
    if taken.rows_affected == 1 {
        Ok(block)
    } else {
        Err(StoreError::Stale {
            what: format!("usage of key {id}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store,
        test_store::{Kind, TestStore, loser, new_key, now},
    };

    const NO_PROOF: Option<BackupProof> = Some(BackupProof::NotRequired);

    async fn standby_of(store: &TestStore, keyring: &Keyring, id: u32) -> Key {
        let unit = store.unit().await;
        let key = insert_standby(&unit, keyring.id, new_key(id))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        key
    }

    async fn switch_to(
        store: &TestStore,
        keyring: &Keyring,
        key: &Key,
        policy: &KeyringPolicy,
        proof: Option<BackupProof>,
    ) -> Result<(), StoreError> {
        let unit = store.unit().await;
        switch(&unit, keyring, key, policy, proof).await?;
        unit.commit().await
    }

    async fn states(store: &TestStore, keyring: &Keyring) -> Vec<KeyState> {
        let keys = of_keyring(store.db(), keyring.id).await.unwrap();
        keys.into_iter().map(|key| key.state.0).collect()
    }

    #[tokio::test]
    async fn a_switch_leaves_one_active_key_and_is_made_once() {
        for kind in Kind::BOTH {
            use KeyState::{Active, Inactive};
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let policy = KeyringPolicy::default();
            for (id, after) in [(1, vec![Active]), (2, vec![Inactive, Active])] {
                let standby = standby_of(&store, &keyring, id).await;
                switch_to(&store, &keyring, &standby, &policy, NO_PROOF)
                    .await
                    .unwrap();
                assert_eq!(states(&store, &keyring).await, after);
                let again = switch_to(&store, &keyring, &standby, &policy, NO_PROOF).await;
                assert!(again.is_err());
                assert_eq!(states(&store, &keyring).await, after);
                let found = crate::keyrings::by_id(store.db(), keyring.id)
                    .await
                    .unwrap();
                assert_eq!(found.primary_key_id, Some(i64::from(id)));
            }
            let old = find(store.db(), KeyId::new(1)).await.unwrap().unwrap();
            assert_eq!(old.deactivated_at, Some(now()));
            let back = switch_to(&store, &keyring, &old, &policy, NO_PROOF).await;
            assert!(matches!(back, Err(StoreError::Refused(_))));
            assert_eq!(states(&store, &keyring).await, [Inactive, Active]);
        }
    }

    #[tokio::test]
    async fn whatever_a_program_does_a_keyring_has_no_second_active_key() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            for id in [1, 2] {
                standby_of(&store, &keyring, id).await;
            }
            let unit = store.unit().await;
            let all = key::Entity::update_many()
                .set(key::ActiveModel {
                    state: Set(Text(KeyState::Active)),
                    ..Default::default()
                })
                .exec(unit.db())
                .await;
            assert!(all.is_err());
        }
    }

    #[tokio::test]
    async fn without_its_proof_of_a_backup_no_key_becomes_primary() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let standby = standby_of(&store, &keyring, 1).await;
            let required = KeyringPolicy {
                backup: rekey_domain::BackupPolicy::Required,
                ..Default::default()
            };
            for proof in [None, NO_PROOF] {
                let refused = switch_to(&store, &keyring, &standby, &required, proof).await;
                assert!(matches!(refused, Err(StoreError::Refused(_))));
            }
            let off = KeyringPolicy::default();
            assert!(
                switch_to(&store, &keyring, &standby, &off, None)
                    .await
                    .is_err()
            );
            assert_eq!(states(&store, &keyring).await, [KeyState::Pending]);
        }
    }

    #[tokio::test]
    async fn standbys_stored_at_once_have_versions_of_their_own() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let insert = async |store: Store, id| {
                let unit = store.begin(now()).await.unwrap();
                let key = insert_standby(&unit, keyring.id, new_key(id))
                    .await
                    .unwrap();
                unit.commit().await.unwrap();
                key.version()
            };
            let elsewhere = store.another().await;
            for id in [1, 3, 5, 7] {
                let here = insert(store.clone(), id);
                let (one, two) = tokio::join!(here, insert(elsewhere.clone(), id + 1));
                assert!(
                    [(id, id + 1), (id + 1, id)].contains(&(one, two)),
                    "{one} {two}"
                );
            }
        }
    }

    #[tokio::test]
    async fn of_two_switches_at_once_one_is_made() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let policy = KeyringPolicy::default();
            let standby = standby_of(&store, &keyring, 1).await;
            let elsewhere = store.another().await;
            let switch = async |store: &Store| {
                let unit = store.begin(now()).await?;
                switch(&unit, &keyring, &standby, &policy, NO_PROOF).await?;
                unit.commit().await
            };
            let made = tokio::join!(switch(&store), switch(&elsewhere));
            let late = loser(made);
            assert!(matches!(late, StoreError::Stale { .. }), "{late}");
            assert_eq!(states(&store, &keyring).await, [KeyState::Active]);
        }
    }

    #[tokio::test]
    async fn a_standby_of_another_algorithm_is_never_used() {
        for kind in Kind::BOTH {
            use KeyState::{Active, Destroying, Pending};
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let policy = KeyringPolicy::default();
            let primary = standby_of(&store, &keyring, 1).await;
            switch_to(&store, &keyring, &primary, &policy, NO_PROOF)
                .await
                .unwrap();
            let standby = standby_of(&store, &keyring, 2).await;
            let unit = store.unit().await;
            let cbc = Algorithm::Aes256Cbc;
            keyrings::set_algorithm(&unit, keyring.id, cbc)
                .await
                .unwrap();
            let retired = retire_standbys(&unit, keyring.id, cbc).await.unwrap();
            assert_eq!(retired, std::slice::from_ref(&standby));
            // One that was made before the change comes too late.
            let late = insert_standby(&unit, keyring.id, new_key(3)).await;
            assert!(matches!(late, Err(StoreError::Stale { .. })));
            unit.commit().await.unwrap();
            assert_eq!(states(&store, &keyring).await, [Active, Destroying]);
            let used = switch_to(&store, &keyring, &standby, &policy, NO_PROOF).await;
            assert!(used.is_err());

            let new = NewKey {
                algorithm: cbc,
                ..new_key(3)
            };
            let unit = store.unit().await;
            insert_standby(&unit, keyring.id, new).await.unwrap();
            let again = retire_standbys(&unit, keyring.id, cbc).await.unwrap();
            unit.commit().await.unwrap();
            assert_eq!(again, []);
            assert_eq!(
                states(&store, &keyring).await,
                [Active, Destroying, Pending]
            );
        }
    }

    /// What a program finds that is older than the algorithm.
    #[tokio::test]
    async fn a_key_of_an_unknown_algorithm_is_an_error_and_never_read_as_another() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            standby_of(&store, &keyring, 1).await;
            let unit = store.unit().await;
            let unknown = Expr::value("AES-512-XYZ");
            key::Entity::update_many()
                .col_expr(key::Column::Algorithm, unknown)
                .exec(unit.db())
                .await
                .unwrap();
            unit.commit().await.unwrap();
            let error = of_keyring(store.db(), keyring.id).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("AES-512-XYZ") && text.contains("AES-256-GCM"));
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn an_id_is_given_to_one_key_only() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let (phi, audit) = (store.keyring("phi").await, store.keyring("audit").await);
            standby_of(&store, &phi, 1).await;
            let unit = store.unit().await;
            assert!(insert_standby(&unit, audit.id, new_key(1)).await.is_err());
        }
    }

    #[tokio::test]
    async fn the_largest_key_id_reads_back_as_it_was() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            standby_of(&store, &keyring, u32::MAX).await;
            let found = find(store.db(), KeyId::new(u32::MAX)).await.unwrap();
            assert_eq!(found.unwrap().id(), KeyId::new(u32::MAX));
        }
    }

    #[tokio::test]
    async fn a_key_is_wrapped_anew_once_and_only_as_it_was_read() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let key = standby_of(&store, &keyring, 1).await;
            let other = standby_of(&store, &keyring, 2).await;
            assert_eq!(key.master_key.as_deref(), Some("master-1"));
            for (new, master_key, done) in [(7, "master-2", true), (8, "master-3", false)] {
                let unit = store.unit().await;
                let rewrapped = rewrap(&unit, &key, vec![new; 61], master_key).await;
                unit.commit().await.unwrap();
                let stale = matches!(rewrapped, Err(StoreError::Stale { .. }));
                assert_eq!((rewrapped.is_ok(), stale), (done, !done));
            }
            let found = find(store.db(), key.id()).await.unwrap().unwrap();
            let expected = Key {
                wrapped: Some(vec![7; 61]),
                master_key: Some("master-2".to_owned()),
                ..key
            };
            assert_eq!(
                wrapped(store.db()).await.unwrap(),
                [expected.clone(), other]
            );
            assert_eq!(found, expected);
        }
    }

    async fn take(store: &Store, wanted: u64) -> Result<u64, StoreError> {
        let unit = store.begin(now()).await?;
        let block = take_usage(&unit, KeyId::new(1), wanted, true).await?;
        unit.commit().await?;
        Ok(block.size)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn blocks_taken_by_many_at_once_sum_up_and_never_pass_the_limit() {
        for kind in Kind::BOTH {
            const LEFT: u64 = 100_000;
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            standby_of(&store, &keyring, 1).await;
            let unit = store.unit().await;
            let used = i64::try_from(HARD_LIMIT - LEFT).unwrap();
            key::Entity::update_many()
                .col_expr(key::Column::Used, Expr::value(used))
                .exec(unit.db())
                .await
                .unwrap();
            unit.commit().await.unwrap();
            let elsewhere = store.another().await;
            let takers: Vec<_> = (0..16u64)
                .map(|taker| {
                    let store = if taker % 2 == 0 {
                        store.clone()
                    } else {
                        elsewhere.clone()
                    };
                    tokio::spawn(async move {
                        let mut taken = 0;
                        loop {
                            match take(&store, 1_000 + taker * 311).await {
                                Ok(size) => taken += size,
                                Err(StoreError::Refused(_)) => return taken,
                                Err(error) => assert!(error.is_retryable(), "{error}"),
                            }
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            for taker in takers {
                taken += taker.await.unwrap();
            }
            assert_eq!(taken, LEFT);
            let key = find(store.db(), KeyId::new(1)).await.unwrap().unwrap();
            assert_eq!(key.used.unsigned_abs(), HARD_LIMIT);
            assert_eq!(key.used_by_applications.unsigned_abs(), LEFT);
        }
    }

    #[tokio::test]
    async fn only_applications_count_towards_a_rotation() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            standby_of(&store, &keyring, 1).await;
            let unit = store.unit().await;
            for by_application in [true, false] {
                take_usage(&unit, KeyId::new(1), 10, by_application)
                    .await
                    .unwrap();
            }
            unit.commit().await.unwrap();
            let key = find(store.db(), KeyId::new(1)).await.unwrap().unwrap();
            assert_eq!((key.used, key.used_by_applications), (20, 10));
        }
    }
}
