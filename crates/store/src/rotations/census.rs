//! Censuses that rotations took.

use chrono::{DateTime, Utc};
use rekey_domain::{Found, KeyId};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
};
use uuid::Uuid;

pub use crate::rotations::entities::census::Model as Counted;
use crate::{StoreError, Unit, rotations::entities::census};

/// The pass that a rotation's census before its first batch is stored under.
pub const BEFORE: i32 = -1;
/// In place of a key's id, which is never negative: values that the database cannot read. Older programs take them for
/// something that is no ciphertext.
const UNREADABLE: i64 = -1;
/// The same for what is empty.
const EMPTY: i64 = -2;

impl Counted {
    /// How many there are.
    pub fn rows(&self) -> u64 {
        self.rows.unsigned_abs()
    }

    /// How many of them the same census saw to be values that the pass before it left in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.quarantined.unwrap_or_default().unsigned_abs()
    }

    /// What the counted values are.
    pub fn found(&self) -> Found {
        match self.found_key_id {
            Some(UNREADABLE) => return Found::Unreadable,
            Some(EMPTY) => return Found::Empty,
            _ => {}
        }
        let id = self.found_key_id.and_then(|id| u32::try_from(id).ok());
        id.map_or(Found::NotCiphertext, |id| Found::Key(KeyId::new(id)))
    }
}

/// Values of a column that are the same, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What they are.
    pub found: Found,
    /// How many there are.
    pub rows: u64,
    /// How many of them the same census saw to be values that the pass before it left in quarantine.
    pub quarantined: u64,
}

/// Stores how many values of a column, at the place where it was counted, were found under each key, as of
/// `taken_at`; a column without values as zero.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn record(
    unit: &Unit,
    rotation: Uuid,
    pass: i32,
    column: (Uuid, &str),
    counts: &[Count],
    taken_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    for count in counts {
        let found_key_id = match count.found {
            Found::Key(id) => Some(i64::from(id.value())),
            Found::NotCiphertext => None,
            Found::Empty => Some(EMPTY),
            Found::Unreadable => Some(UNREADABLE),
        };
        let row = census::ActiveModel {
            id: Set(Uuid::now_v7()),
            rotation_id: Set(rotation),
            pass: Set(pass),
            column_id: Set(column.0),
            found_key_id: Set(found_key_id),
            rows: Set(i64::try_from(count.rows).unwrap_or(i64::MAX)),
            taken_at: Set(taken_at),
            place: Set(Some(column.1.to_owned())),
            quarantined: Set(Some(i64::try_from(count.quarantined).unwrap_or(i64::MAX))),
        };
        census::Entity::insert(row)
            .exec_without_returning(unit.db())
            .await?;
    }
    Ok(())
}

/// The census of one pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: Uuid,
    pass: i32,
) -> Result<Vec<Counted>, StoreError> {
    let of_pass = census::Column::RotationId
        .eq(rotation)
        .and(census::Column::Pass.eq(pass));
    Ok(census::Entity::find()
        .filter(of_pass)
        .order_by_asc(census::Column::Id)
        .all(db)
        .await?)
}
