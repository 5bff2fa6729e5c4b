//! Sweeps: rotations to the primary key that there is, of some columns or all.

use rekey_domain::{ColumnName, Principal, RotationKind, RotationReason};
use sea_orm::{ActiveValue::Set, ConnectionTrait};

use crate::{
    StoreError, Unit,
    database::stored::{Id, Json, Text},
    keys::keyrings::Keyring,
    rotations::{self, Changes, Rotation},
    sources::columns::{self, Protected},
};

/// Starts a sweep to the keyring's primary key, of the rows in which these columns stand; of none
/// named: of all that the keyring protects. The keyring is locked.
///
/// # Errors
/// [`StoreError::Refused`] without a primary key, [`StoreError::Stale`] when the keyring has a live
/// rotation.
pub async fn start(
    unit: &Unit,
    keyring: &Keyring,
    columns: &[ColumnName],
    reason: RotationReason,
    principal: &Principal,
) -> Result<Rotation, StoreError> {
    let primary = keyring.primary_key_id.ok_or_else(|| {
        StoreError::Refused(format!(
            "keyring {} has no primary key that a sweep could move its rows to; run rekey init again, which makes one",
            keyring.name
        ))
    })?;
    let kind = RotationKind::Sweep;
    let row = Changes {
        kind: Set(Text(kind)),
        state: Set(Text(kind.starts_in())),
        target_key_id: Set(Some(Id(primary))),
        sweep_columns: Set((!columns.is_empty()).then(|| Json(columns.to_vec()))),
        ..rotations::new(unit, keyring.id, reason, principal)
    };
    rotations::insert(unit, row).await
}

/// Ends a sweep in favour of another one for these columns, which takes its rows along. Returns the columns of both.
///
/// # Errors
/// [`StoreError::Stale`] where the rotation moved meanwhile.
pub async fn supersede(
    unit: &Unit,
    earlier: &Rotation,
    columns: &[ColumnName],
) -> Result<Vec<ColumnName>, StoreError> {
    rotations::supersede(unit, earlier).await?;
    let of_earlier = earlier.sweep_columns.clone();
    // No columns means all columns.
    let Some(mut both) = of_earlier.filter(|_| !columns.is_empty()) else {
        return Ok(Vec::new());
    };
    both.extend_from_slice(columns);
    both.sort_unstable();
    both.dedup();
    Ok(both)
}

/// The columns that a rotation covers: all that its keyring protects, or, if it is a sweep of some columns, those and
/// the others in the same rows.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn columns_of(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Vec<Protected>, StoreError> {
    let mut columns = columns::of_keyring(db, rotation.keyring_id).await?;
    if let Some(swept) = &rotation.sweep_columns {
        columns.retain(|column| {
            swept
                .iter()
                .any(|one| one.shares_rows_with(&column.spec.name))
        });
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use rekey_domain::{
        BackupProof, Bind, BindType, KeyId, KeyringPolicy, OnUpdate, RotationState, TextEncoding,
    };

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore, new_key},
        keys::{self, keyrings},
        sources::columns::NewColumn,
    };

    const NOTHING: &[ColumnName] = &[];

    fn name(text: &str) -> ColumnName {
        text.parse().unwrap()
    }

    fn ana() -> Principal {
        Principal::os("ana", "clinic")
    }

    /// A keyring with a primary key.
    async fn keyring(store: &TestStore) -> Keyring {
        let keyring = store.keyring("phi").await;
        let unit = store.unit().await;
        let standby = keys::insert_standby(&unit, keyring.id, new_key(7)).await;
        let (policy, proof) = (KeyringPolicy::default(), Some(BackupProof::NotRequired));
        let switched = keys::switch(&unit, &keyring, &standby.unwrap(), &policy, proof).await;
        switched.unwrap();
        let keyring = keyrings::by_id(unit.db(), keyring.id).await.unwrap();
        unit.commit().await.unwrap();
        keyring
    }

    async fn started(unit: &Unit, keyring: &Keyring, columns: &[ColumnName]) -> Rotation {
        let started = start(unit, keyring, columns, RotationReason::Request, &ana()).await;
        started.unwrap()
    }

    /// Two columns of one table and one of another.
    async fn protect(unit: &Unit, keyring: &Keyring) {
        let source = columns::ensure_source(unit, "clinic", "sqlite://clinic.db").await;
        let source = source.unwrap().0.id;
        for (table, names) in [
            ("patients", &["ssn", "notes"][..]),
            ("visits", &["finding"]),
        ] {
            let table =
                columns::ensure_table(unit, source, table, table, OnUpdate::default()).await;
            for name in names {
                let column = NewColumn {
                    name: (*name).to_owned(),
                    is_id_said: false,
                    column_id: format!("clinic.{name}"),
                    keyring: keyring.id,
                    bind: Bind::Row,
                    bind_columns: vec!["id".to_owned()],
                    bind_types: vec![BindType::Int8],
                    encoding: TextEncoding::Binary,
                    identity: None,
                };
                let table = table.as_ref().unwrap().0.id;
                columns::protect(unit, table, column).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_sweep_is_to_the_primary_key_and_verifies_from_the_start() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = keyring(&store).await;
            let unit = store.unit().await;
            let columns = [name("clinic.patients.ssn")];
            let id = started(&unit, &keyring, &columns).await.id;
            unit.commit().await.unwrap();
            let sweep = rotations::by_id(store.db(), id).await.unwrap();
            assert_eq!(sweep.kind, RotationKind::Sweep);
            assert_eq!(sweep.state, RotationState::Verifying);
            assert_eq!((sweep.target_key_id, sweep.pass), (Some(KeyId::new(7)), 0));
            assert_eq!(sweep.sweep_columns, Some(columns.to_vec()));
            assert!(sweep.switched_at.is_none() && sweep.previous_key_id.is_none());

            let unit = store.unit().await;
            let second = start(&unit, &keyring, NOTHING, RotationReason::Request, &ana()).await;
            assert!(
                matches!(second, Err(StoreError::Stale { .. })),
                "{second:?}"
            );
        }
    }

    #[tokio::test]
    async fn without_a_primary_key_there_is_no_sweep() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let unit = store.unit().await;
            let refused = start(&unit, &keyring, NOTHING, RotationReason::Request, &ana()).await;
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains("phi") && error.contains("rekey init"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn what_an_older_program_starts_makes_a_switch() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = keyring(&store).await;
            let unit = store.unit().await;
            let row = Changes {
                kind: sea_orm::ActiveValue::NotSet,
                ..rotations::new(&unit, keyring.id, RotationReason::Schedule, &ana())
            };
            let started = rotations::insert(&unit, row).await.unwrap();
            unit.commit().await.unwrap();
            let started = rotations::by_id(store.db(), started.id).await.unwrap();
            assert_eq!(started.kind, RotationKind::Switch);
        }
    }

    #[tokio::test]
    async fn a_sweep_is_about_what_stands_in_the_rows_of_its_columns() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = keyring(&store).await;
            let unit = store.unit().await;
            protect(&unit, &keyring).await;
            let of_all = started(&unit, &keyring, NOTHING).await;
            assert_eq!(columns_of(unit.db(), &of_all).await.unwrap().len(), 3);
            supersede(&unit, &of_all, NOTHING).await.unwrap();
            let of_one = started(&unit, &keyring, &[name("clinic.patients.ssn")]).await;
            let columns = columns_of(unit.db(), &of_one).await.unwrap();
            let mut columns: Vec<_> = columns
                .iter()
                .map(|one| one.spec.name.to_string())
                .collect();
            columns.sort_unstable();
            assert_eq!(columns, ["clinic.patients.notes", "clinic.patients.ssn"]);
        }
    }

    #[tokio::test]
    async fn a_later_sweep_takes_the_columns_of_the_earlier_along() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = keyring(&store).await;
            let unit = store.unit().await;
            let (ssn, finding) = (name("clinic.patients.ssn"), name("clinic.visits.finding"));
            let first = started(&unit, &keyring, std::slice::from_ref(&finding)).await;
            let both = supersede(&unit, &first, std::slice::from_ref(&ssn)).await;
            assert_eq!(both.unwrap(), [ssn.clone(), finding]);
            let of_all = started(&unit, &keyring, NOTHING).await;
            let all = supersede(&unit, &of_all, std::slice::from_ref(&ssn)).await;
            assert_eq!(all.unwrap(), []);
        }
    }
}
