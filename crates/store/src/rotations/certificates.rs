//! Certificates of completed rotations: which wait for their signature, and the signature itself.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
};

use crate::{
    StoreError, Unit,
    rotations::{self, Changes, Rotation, entities::rotation},
};

/// Rotations whose certificate waits for its signature, first completed first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn unsigned(db: &impl ConnectionTrait) -> Result<Vec<Rotation>, StoreError> {
    let waits = rotation::Column::CertificateDue.is_not_null();
    let waiting = rotation::Entity::find().filter(waits);
    let waiting = waiting.order_by_asc(rotation::Column::Id).all(db).await?;
    Ok(rotations::parsed(waiting))
}

/// Those that are to be looked at by `now` (database time, milliseconds), or whose date lies further
/// ahead than any we set, as after a step of the clock.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn to_sign(
    db: &impl ConnectionTrait,
    now: i64,
    furthest: i64,
) -> Result<Vec<Rotation>, StoreError> {
    let due = rotation::Column::CertificateDue
        .lte(now)
        .or(rotation::Column::CertificateDue.gt(furthest));
    let due = rotation::Entity::find().filter(due).all(db).await?;
    Ok(rotations::parsed(due))
}

/// Looks again at `due` (database time, milliseconds). One that was signed meanwhile stays so.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn put_off(unit: &Unit, rotation: &Rotation, due: i64) -> Result<(), StoreError> {
    let changes = Changes {
        certificate_due: Set(Some(due)),
        ..Default::default()
    };
    update_unsigned(unit, rotation, changes).await.map(drop)
}

/// Stores the signed certificate; tells whether this was the one that counts. Of several that sign at
/// once the first does, as the bytes are kept for ever.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn sign(unit: &Unit, rotation: &Rotation, jws: &str) -> Result<bool, StoreError> {
    let changes = Changes {
        certificate_jws: Set(Some(jws.to_owned())),
        certificate_due: Set(None),
        ..Default::default()
    };
    update_unsigned(unit, rotation, changes).await
}

async fn update_unsigned(
    unit: &Unit,
    rotation: &Rotation,
    changes: Changes,
) -> Result<bool, StoreError> {
    let changed = rotation::Entity::update_many()
        .set(changes)
        .filter(rotation::Column::Id.eq(rotation.id))
        .filter(rotation::Column::CertificateJws.is_null())
        .filter(rotation::Column::CertificateDue.is_not_null())
        .exec(unit.db())
        .await?;
    Ok(changed.rows_affected == 1)
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Principal, RotationReason};

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore},
        rotations,
    };

    /// A rotation of a keyring of its own, as a keyring has one live one.
    async fn rotation(store: &TestStore, name: &str, due: Option<i64>) -> Rotation {
        let keyring = store.keyring(name).await.id;
        let unit = store.unit().await;
        let (principal, reason) = (Principal::os("ana", "clinic"), RotationReason::Request);
        let started = rotations::start(&unit, keyring, reason, &principal).await;
        let started = started.unwrap();
        let changes = Changes {
            certificate_due: Set(due),
            ..Default::default()
        };
        rotations::update(&unit, &started, changes).await.unwrap();
        unit.commit().await.unwrap();
        started
    }

    #[tokio::test]
    async fn a_certificate_is_signed_once_and_only_where_a_signature_is_wanted() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let old = rotation(&store, "old", None).await;
            let new = rotation(&store, "new", Some(1_000)).await;
            let unit = store.unit().await;
            assert!(!sign(&unit, &old, "old").await.unwrap());
            assert_eq!(unsigned(unit.db()).await.unwrap()[0].id, new.id);
            assert!(sign(&unit, &new, "first").await.unwrap());
            assert!(!sign(&unit, &new, "second").await.unwrap());
            put_off(&unit, &new, 2_000).await.unwrap();
            let stored = rotations::by_id(unit.db(), new.id).await.unwrap();
            assert_eq!(stored.certificate_jws.as_deref(), Some("first"));
            assert_eq!(stored.certificate_due, None);
            assert!(unsigned(unit.db()).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_due_or_dated_beyond_reason_is_looked_at() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            for (name, due) in [
                ("a", None),
                ("b", Some(10)),
                ("c", Some(11)),
                ("d", Some(99)),
            ] {
                rotation(&store, name, due).await;
            }
            let found = to_sign(store.db(), 10, 50).await.unwrap();
            let mut found: Vec<_> = found.iter().map(|one| one.certificate_due).collect();
            found.sort_unstable();
            assert_eq!(found, [Some(10), Some(99)]);
        }
    }
}
