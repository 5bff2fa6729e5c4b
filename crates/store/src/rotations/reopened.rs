//! Places where a pass opened what was in quarantine, until a census has seen whether it stands anywhere else.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::OnConflict,
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    rotations::{Rotation, entities::reopened},
};

/// Rows that one statement writes.
const AT_ONCE: usize = 500;

/// Adds places of values, each of a column, that the rotation's present pass opened; again changes nothing.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn add(
    unit: &Unit,
    rotation: &Rotation,
    values: &[(Uuid, String)],
) -> Result<(), StoreError> {
    use reopened::Column::{ColumnId, Pass, RotationId, RowKey};
    let row = |(column, row_key): &(Uuid, String)| reopened::ActiveModel {
        rotation_id: Set(rotation.id),
        pass: Set(rotation.pass),
        column_id: Set(*column),
        row_key: Set(row_key.clone()),
    };
    for some in values.chunks(AT_ONCE) {
        let once = OnConflict::columns([ColumnId, RowKey, RotationId, Pass])
            .do_nothing()
            .to_owned();
        reopened::Entity::insert_many(some.iter().map(row))
            .on_conflict(once)
            .exec_without_returning(unit.db())
            .await?;
    }
    Ok(())
}

/// Those of a column that the rotation's present pass opened.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    column: Uuid,
) -> Result<Vec<String>, StoreError> {
    use reopened::Column::{ColumnId, Pass, RotationId, RowKey};
    Ok(reopened::Entity::find()
        .select_only()
        .column(RowKey)
        .filter(ColumnId.eq(column))
        .filter(RotationId.eq(rotation.id))
        .filter(Pass.eq(rotation.pass))
        .into_tuple()
        .all(db)
        .await?)
}

/// Forgets all of a column, also of passes that never came to a census.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn forget(unit: &Unit, column: Uuid) -> Result<(), StoreError> {
    reopened::Entity::delete_many()
        .filter(reopened::Column::ColumnId.eq(column))
        .exec(unit.db())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Principal, RotationReason};

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore},
        rotations,
    };

    #[tokio::test]
    async fn a_place_is_kept_once_for_its_pass_and_goes_with_its_column() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await;
            let unit = store.unit().await;
            let ana = Principal::os("ana", "clinic");
            let rotation = rotations::start(&unit, keyring.id, RotationReason::Request, &ana);
            let rotation = rotation.await.unwrap();
            let (ssn, note) = (Uuid::now_v7(), Uuid::now_v7());
            let places: Vec<_> = (0..1_200).map(|at| (ssn, format!("p {at} aa"))).collect();
            for _ in 0..2 {
                add(&unit, &rotation, &places).await.unwrap();
            }
            let other = [(note, "p 7 aa".to_owned())];
            add(&unit, &rotation, &other).await.unwrap();
            let of = async |column| of_pass(unit.db(), &rotation, column).await.unwrap().len();
            assert_eq!((of(ssn).await, of(note).await), (1_200, 1));
            forget(&unit, ssn).await.unwrap();
            assert_eq!((of(ssn).await, of(note).await), (0, 1));
        }
    }
}
