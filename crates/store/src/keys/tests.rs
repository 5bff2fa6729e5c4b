//! Keys, on both databases.

use chrono::TimeDelta;
use rekey_domain::HARD_LIMIT;

use super::*;
use crate::{
    Store,
    database::test_store::{Kind, TestStore, loser, new_key},
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

/// Gives a keyring a key that took another's place.
async fn replaced_once(store: &TestStore, keyring: &Keyring) {
    for id in [1, 2] {
        let key = standby_of(store, keyring, id).await;
        let policy = KeyringPolicy::default();
        let switched = switch_to(store, keyring, &key, &policy, NO_PROOF).await;
        switched.unwrap();
    }
}

async fn states(store: &TestStore, keyring: &Keyring) -> Vec<KeyState> {
    let keys = of_keyring(store.db(), keyring.id).await.unwrap();
    keys.into_iter().map(|key| key.state).collect()
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
            let found = crate::keys::keyrings::by_id(store.db(), keyring.id)
                .await
                .unwrap();
            assert_eq!(found.primary_key_id, Some(KeyId::new(id)));
        }
        let [old, new] = &of_keyring(store.db(), keyring.id).await.unwrap()[..] else {
            panic!("two keys");
        };
        assert!(old.deactivated_at.is_some());
        assert_eq!(old.deactivated_at, new.activated_at);
        let back = switch_to(&store, &keyring, old, &policy, NO_PROOF).await;
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
            let unit = store.begin().await.unwrap();
            let key = insert_standby(&unit, keyring.id, new_key(id))
                .await
                .unwrap();
            unit.commit().await.unwrap();
            key.version
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
            let unit = store.begin().await?;
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
        assert_eq!(found.unwrap().id, KeyId::new(u32::MAX));
    }
}

#[tokio::test]
async fn a_key_is_wrapped_anew_once_and_only_as_it_was_read() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        standby_of(&store, &keyring, 1).await;
        standby_of(&store, &keyring, 2).await;
        let [key, other]: [StoredKey; 2] = wrapped(store.db()).await.unwrap().try_into().unwrap();
        assert_eq!(key.master_key.as_deref(), Some("master-1"));
        for (new, master_key, done) in [(7, "master-2", true), (8, "master-3", false)] {
            let unit = store.unit().await;
            let rewrapped = rewrap(&unit, &key, vec![new; 61], master_key).await;
            unit.commit().await.unwrap();
            let stale = matches!(rewrapped, Err(StoreError::Stale { .. }));
            assert_eq!((rewrapped.is_ok(), stale), (done, !done));
        }
        let found = find_stored(store.db(), key.id).await.unwrap().unwrap();
        let expected = StoredKey {
            wrapped: Some(vec![7; 61]),
            key: Key {
                master_key: Some("master-2".to_owned()),
                ..key.key
            },
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
    let unit = store.begin().await?;
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
            .col_expr(key::Column::State, Expr::value("ACTIVE"))
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
        assert_eq!(key.used, HARD_LIMIT);
        assert_eq!(key.used_by_applications, LEFT);
    }
}

async fn set_state(unit: &Unit, state: KeyState) {
    let set =
        key::Entity::update_many().col_expr(key::Column::State, Expr::value(state.to_string()));
    set.exec(unit.db()).await.unwrap();
}

#[tokio::test]
async fn encryptions_are_drawn_from_a_key_that_encrypts_or_was_replaced_and_from_no_other() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        standby_of(&store, &keyring, 1).await;
        for state in KeyState::ALL {
            let unit = store.unit().await;
            set_state(&unit, state).await;
            let drawn = take_usage(&unit, KeyId::new(1), 10, true).await;
            match state {
                KeyState::Active | KeyState::Inactive => assert!(drawn.is_ok(), "{state}"),
                KeyState::Compromised => {
                    assert!(
                        matches!(drawn, Err(StoreError::Compromised { .. })),
                        "{state}"
                    );
                }
                _ => assert!(matches!(drawn, Err(StoreError::Refused(_))), "{state}"),
            }
        }
    }
}

#[tokio::test]
async fn only_applications_count_towards_a_rotation() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        standby_of(&store, &keyring, 1).await;
        let unit = store.unit().await;
        set_state(&unit, KeyState::Active).await;
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

#[tokio::test]
async fn a_key_remembers_the_longest_lease_that_any_policy_gave_under_it() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        let policy = |seconds| KeyringPolicy {
            encrypt_lease: Duration::from_secs(seconds),
            ..KeyringPolicy::default()
        };
        let apply = async |seconds| {
            let unit = store.unit().await;
            let policy = policy(seconds);
            let set = keyrings::set_policy(&unit, keyring.id, &policy);
            set.await.unwrap();
            unit.commit().await.unwrap();
        };
        apply(10).await;
        let old = standby_of(&store, &keyring, 1).await;
        let first = switch_to(&store, &keyring, &old, &policy(10), NO_PROOF).await;
        first.unwrap();
        assert_eq!(leases::last_ends(&store, keyring.id).await.unwrap(), None);
        apply(3_600).await;
        apply(1).await;
        let new = standby_of(&store, &keyring, 2).await;
        let second = switch_to(&store, &keyring, &new, &policy(1), NO_PROOF).await;
        second.unwrap();

        let before = store.now().await.unwrap();
        let ends = leases::last_ends(&store, keyring.id)
            .await
            .unwrap()
            .unwrap();
        let after = store.now().await.unwrap();
        let hour = TimeDelta::hours(1);
        assert!((before + hour..=after + hour).contains(&ends), "{ends}");
        let again = leases::last_ends(&store, keyring.id).await.unwrap();
        assert_eq!(again, Some(ends), "found out once");
        let longest = of_keyring(store.db(), keyring.id).await.unwrap();
        let longest: Vec<_> = longest.iter().map(|key| key.longest_lease).collect();
        assert_eq!(
            longest,
            [3_600, 1].map(|seconds| Some(Duration::from_secs(seconds)))
        );
    }
}

#[tokio::test]
async fn leases_of_which_nothing_is_known_are_taken_to_last_as_long_as_any() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        replaced_once(&store, &keyring).await;
        let forget = async |dated: Option<DateTime<Utc>>| {
            let unit = store.unit().await;
            let unknown = key::ActiveModel {
                longest_lease: Set(None),
                leases_end_at: Set(dated),
                ..Default::default()
            };
            let forget = key::Entity::update_many().set(unknown);
            forget.exec(unit.db()).await.unwrap();
            unit.commit().await.unwrap();
        };
        // Made primary by an older program; or dated before the database's clock was stepped back.
        for dated in [None, Some(store.now().await.unwrap() + TimeDelta::days(30))] {
            forget(dated).await;
            let before = store.now().await.unwrap();
            let ends = leases::last_ends(&store, keyring.id)
                .await
                .unwrap()
                .unwrap();
            let after = store.now().await.unwrap();
            let day = TimeDelta::days(1);
            assert!((before + day..=after + day).contains(&ends), "{ends}");
        }
    }
}

/// A step of an hour does not hold a rotation for an hour whose leases last five minutes.
#[tokio::test]
async fn a_date_from_before_the_clock_was_stepped_back_is_worked_out_again() {
    for kind in Kind::BOTH {
        let store = TestStore::new(kind).await;
        let keyring = store.keyring("phi").await;
        replaced_once(&store, &keyring).await;
        let ahead = key::ActiveModel {
            leases_end_at: Set(Some(store.now().await.unwrap() + TimeDelta::hours(1))),
            ..Default::default()
        };
        let unit = store.unit().await;
        let step_back = key::Entity::update_many().set(ahead);
        step_back.exec(unit.db()).await.unwrap();
        unit.commit().await.unwrap();
        let ends = leases::last_ends(&store, keyring.id).await.unwrap();
        let latest = store.now().await.unwrap() + KeyringPolicy::default().encrypt_lease;
        assert!(ends.unwrap() <= latest, "{ends:?}");
    }
}
