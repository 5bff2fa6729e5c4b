//! The list of values that could not be re-encrypted.

use std::collections::HashSet;

use rekey_domain::{KeyId, PartId, QuarantineReason};
use rekey_envelope::Ciphertext;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
    sea_query::{LikeExpr, OnConflict, SimpleExpr},
};
use uuid::Uuid;

pub use crate::rotations::entities::quarantine::Model as Quarantined;
use crate::{
    StoreError, Unit,
    database::stored::{Id, Text},
    incidents::emptied,
    keys::{self, keyrings},
    rotations::{Rotation, entities::quarantine},
};

/// Values that one statement names.
const AT_ONCE: usize = 500;

/// The column id that names of rows are bound to: `quarantine` is a protected table of the store itself.
pub const ROW_NAME_COLUMN_ID: &str = "rekey.quarantine.row_name";

impl Quarantined {
    /// The key id its first bytes name, if they name one.
    pub fn found(&self) -> Option<KeyId> {
        self.found_key_id.map(|Id(id)| id)
    }

    /// Why it is there; where a later program says it in a word that is not known here, as older programs read it.
    pub fn reason(&self) -> QuarantineReason {
        let word = self.word.as_ref().and_then(|word| word.parse().ok());
        word.unwrap_or(self.reason.0)
    }
}

/// A value to put in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuarantine {
    /// The protected column.
    pub column: Uuid,
    /// Part, place and a hash that tell it from other values. Says nothing in clear of the value or of its row's key.
    pub row_key: String,
    /// The row's name for people, sealed.
    pub row_name: Option<Vec<u8>>,
    /// The key id its first bytes name, if they name one.
    pub found: Option<KeyId>,
    /// Why.
    pub reason: QuarantineReason,
    /// What more is known of why: a trigger, a server's code. Nothing of the value or its row's key.
    pub detail: Option<String>,
    /// The hash of all of its ciphertext, where a person may release it.
    pub whole: Option<String>,
}

/// Refuses names of rows that were sealed under a key that was replaced since.
///
/// # Errors
/// [`StoreError::Stale`] where one was; sealed anew they go through.
pub async fn refuse_late_names(unit: &Unit, values: &[NewQuarantine]) -> Result<(), StoreError> {
    let names = values.iter().filter_map(|value| value.row_name.as_deref());
    let parsed = names.filter_map(|name| Ciphertext::parse(name).ok());
    for key in parsed.map(|name| name.key_id()).collect::<HashSet<_>>() {
        keys::refuse_replaced(unit, key).await?;
    }
    Ok(())
}

/// Puts a value in quarantine; again only brings the reason up to date.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn add(unit: &Unit, rotation: &Rotation, new: NewQuarantine) -> Result<(), StoreError> {
    let new = keep_its_place(unit, new).await?;
    let found = new
        .found
        .filter(|_| new.reason == QuarantineReason::OtherKeyring);
    use quarantine::Column::{
        ColumnId, Detail, FoundAt, FoundKeyId, Pass, Reason, ReleasedAt, ResolvedAt, RotationId,
        RowKey, RowName, Whole, Word,
    };
    let older = new.reason.in_older_words();
    let row = quarantine::ActiveModel {
        id: Set(Uuid::now_v7()),
        rotation_id: Set(rotation.id),
        pass: Set(Some(rotation.pass)),
        column_id: Set(new.column),
        row_key: Set(new.row_key),
        found_key_id: Set(new.found.map(Id)),
        reason: Set(Text(older)),
        word: Set((older != new.reason).then(|| new.reason.to_string())),
        found_at: Set(unit.now()),
        resolved_at: Set(None),
        row_name: Set(new.row_name),
        detail: Set(new.detail),
        released_at: Set(None),
        whole: Set(new.whole),
    };
    let again = OnConflict::columns([ColumnId, RowKey])
        .update_columns([
            RotationId, Pass, FoundKeyId, Reason, Word, FoundAt, ResolvedAt, RowName, Detail,
            ReleasedAt, Whole,
        ])
        .to_owned();
    quarantine::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    match found {
        Some(key) => is_needed_elsewhere(unit, key).await,
        None => Ok(()),
    }
}

/// A key of another keyring: nobody may say any more that nothing is left under it.
async fn is_needed_elsewhere(unit: &Unit, key: KeyId) -> Result<(), StoreError> {
    let Some(key) = keys::find(unit.db(), key).await? else {
        return Ok(());
    };
    let keyring = keyrings::by_id(unit.db(), key.keyring_id).await?;
    emptied::come_back(unit, &keyring, &key).await
}

/// That a value belongs to another row is seen only where both are read together. Who reads it alone later, unchanged
/// as its row key tells, knows less.
async fn keep_its_place(unit: &Unit, new: NewQuarantine) -> Result<NewQuarantine, StoreError> {
    if new.reason != QuarantineReason::Unopened {
        return Ok(new);
    }
    let known = quarantine::Entity::find()
        .filter(quarantine::Column::ColumnId.eq(new.column))
        .filter(quarantine::Column::RowKey.eq(&new.row_key))
        .one(unit.db())
        .await?;
    let known = known.map(|known| known.reason());
    Ok(match known {
        Some(reason @ QuarantineReason::WrongContext) => NewQuarantine { reason, ..new },
        _ => new,
    })
}

/// How many values of a column a rotation met in its current pass and had to leave, each counted
/// once: a row may be met again where its table is planned again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    column: Uuid,
) -> Result<u64, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(quarantine::Column::ColumnId.eq(column))
        .count(db)
        .await?)
}

/// The row keys of these values.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn keys_of_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    column: Uuid,
) -> Result<Vec<String>, StoreError> {
    Ok(quarantine::Entity::find()
        .select_only()
        .column(quarantine::Column::RowKey)
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(quarantine::Column::ColumnId.eq(column))
        .into_tuple()
        .all(db)
        .await?)
}

/// The first `most` values that a rotation met in its current pass and had to leave.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn left_by(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    most: u64,
) -> Result<Vec<Quarantined>, StoreError> {
    let left = quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .order_by_asc(quarantine::Column::Id);
    Ok(left.limit(most).all(db).await?)
}

/// How many of them there are for one reason.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn left_for(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    reason: QuarantineReason,
) -> Result<u64, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(is_for(reason))
        .count(db)
        .await?)
}

/// How many of them stand under one of these keys.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn left_under(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    keys: &[KeyId],
) -> Result<u64, StoreError> {
    let keys = keys.iter().copied().map(Id);
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::RotationId.eq(rotation.id))
        .filter(quarantine::Column::Pass.eq(rotation.pass))
        .filter(quarantine::Column::FoundKeyId.is_in(keys))
        .count(db)
        .await?)
}

/// How many values stand under a key, were written after it was compromised, and stay open once the rotation has
/// resolved what it did not meet of these columns.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open_as_late(
    db: &impl ConnectionTrait,
    key: KeyId,
    (rotation, columns): (&Rotation, &[Uuid]),
) -> Result<u64, StoreError> {
    let resolved = quarantine::Column::ColumnId.is_in(columns.iter().copied());
    let open = late(key).filter(resolved.and(unmet(rotation)).not());
    Ok(open.count(db).await?)
}

/// Whether a value is in quarantine that was written under this key after it was compromised.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn has_late(db: &impl ConnectionTrait, key: KeyId) -> Result<bool, StoreError> {
    Ok(late(key).limit(1).count(db).await? > 0)
}

fn late(key: KeyId) -> Select<quarantine::Entity> {
    quarantine::Entity::find()
        .filter(quarantine::Column::ResolvedAt.is_null())
        .filter(quarantine::Column::FoundKeyId.eq(Id(key)))
        .filter(is_for(QuarantineReason::WrittenAfterCompromise))
}

fn is_for(reason: QuarantineReason) -> SimpleExpr {
    use quarantine::Column::{Reason, Word};
    let older = reason.in_older_words();
    match older == reason {
        true => Reason.eq(reason.to_string()).and(Word.is_null()),
        false => Word.eq(reason.to_string()),
    }
}

/// Has values moved although they may be forged: a person looked at each.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn release(unit: &Unit, ids: &[Uuid]) -> Result<(), StoreError> {
    for some in ids.chunks(AT_ONCE) {
        let released = quarantine::ActiveModel {
            released_at: Set(Some(unit.now())),
            ..Default::default()
        };
        quarantine::Entity::update_many()
            .set(released)
            .filter(quarantine::Column::Id.is_in(some.iter().copied()))
            .exec(unit.db())
            .await?;
    }
    Ok(())
}

/// Those of these values, by column and the hash of all of their ciphertext, that a person released and nobody moved yet.
/// By their place nobody could tell one from another that was put there since.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn released(
    db: &impl ConnectionTrait,
    values: &[(Uuid, String)],
) -> Result<HashSet<(Uuid, String)>, StoreError> {
    use quarantine::Column::{ColumnId, ReleasedAt, ResolvedAt, Whole};
    let mut released = HashSet::new();
    for some in values.chunks(AT_ONCE) {
        let of_them = quarantine::Entity::find()
            .select_only()
            .columns([ColumnId, Whole])
            .filter(ReleasedAt.is_not_null())
            .filter(ResolvedAt.is_null())
            .filter(Whole.is_in(some.iter().map(|(_, whole)| whole.as_str())));
        let found: Vec<(Uuid, String)> = of_them.into_tuple().all(db).await?;
        released.extend(found);
    }
    Ok(released)
}

/// What is in quarantine and was not resolved.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open(db: &impl ConnectionTrait) -> Result<Vec<Quarantined>, StoreError> {
    Ok(quarantine::Entity::find()
        .filter(quarantine::Column::ResolvedAt.is_null())
        .all(db)
        .await?)
}

/// How many values in quarantine stand under this key, in whichever keyring's columns.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn count_under(db: &impl ConnectionTrait, key: KeyId) -> Result<u64, StoreError> {
    // Whoever looks may read no more of them.
    Ok(quarantine::Entity::find()
        .select_only()
        .column(quarantine::Column::Id)
        .filter(quarantine::Column::ResolvedAt.is_null())
        .filter(quarantine::Column::FoundKeyId.eq(Id(key)))
        .count(db)
        .await?)
}

/// How many values are in quarantine.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn count_open(db: &impl ConnectionTrait) -> Result<u64, StoreError> {
    let open = quarantine::Entity::find().filter(quarantine::Column::ResolvedAt.is_null());
    Ok(open.count(db).await?)
}

/// How many values of each column are not resolved, by the column's id.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn open_by_column(db: &impl ConnectionTrait) -> Result<Vec<(Uuid, u64)>, StoreError> {
    let counted: Vec<(Uuid, i64)> = quarantine::Entity::find()
        .select_only()
        .column(quarantine::Column::ColumnId)
        .column_as(quarantine::Column::Id.count(), "values")
        .filter(quarantine::Column::ResolvedAt.is_null())
        .group_by(quarantine::Column::ColumnId)
        .into_tuple()
        .all(db)
        .await?;
    let of = |(column, values): (Uuid, i64)| (column, values.unsigned_abs());
    Ok(counted.into_iter().map(of).collect())
}

/// One of them, resolved or not.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none of this id.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Quarantined, StoreError> {
    let found = quarantine::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| StoreError::Unknown {
        what: format!("value {id} in quarantine"),
        known: Vec::new(),
    })
}

/// Marks one as resolved: a person is done with it.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none of this id, [`StoreError::Refused`] when it is resolved.
pub async fn resolve(unit: &Unit, id: Uuid) -> Result<Quarantined, StoreError> {
    let found = by_id(unit.db(), id).await?;
    if mark(unit, quarantine::Column::Id.eq(id)).await? == 1 {
        return Ok(found);
    }
    Err(StoreError::Refused(format!(
        "value {id} in quarantine is resolved already"
    )))
}

/// Forgets that the present pass met values of a part, which was written anew: it is read again, where
/// they have other places.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn forget_part(
    unit: &Unit,
    rotation: &Rotation,
    part: &PartId,
) -> Result<(), StoreError> {
    use quarantine::Column::{Pass, RotationId, RowKey};
    let unmet = quarantine::ActiveModel {
        pass: Set(None),
        ..Default::default()
    };
    quarantine::Entity::update_many()
        .set(unmet)
        .filter(RotationId.eq(rotation.id))
        .filter(Pass.eq(rotation.pass))
        .filter(starts_with(RowKey, &format!("{part} ")))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Compared as written: names of parts have characters that are wildcards in a pattern.
fn starts_with(column: quarantine::Column, text: &str) -> SimpleExpr {
    let pattern = text
        .replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_");
    column.like(LikeExpr::new(format!("{pattern}%")).escape('\\'))
}

/// The row keys of what is in quarantine of a column, and was not met in the rotation's present pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn not_met(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    column: Uuid,
) -> Result<Vec<String>, StoreError> {
    Ok(quarantine::Entity::find()
        .select_only()
        .column(quarantine::Column::RowKey)
        .filter(quarantine::Column::ColumnId.eq(column))
        .filter(quarantine::Column::ResolvedAt.is_null())
        .filter(unmet(rotation))
        .into_tuple()
        .all(db)
        .await?)
}

/// What is in quarantine under one of these keys, and was not met in the rotation's present pass: of each value its
/// column and its row key.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn not_met_under(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    keys: &HashSet<KeyId>,
) -> Result<Vec<(Uuid, String)>, StoreError> {
    use quarantine::Column::{ColumnId, FoundKeyId, ResolvedAt, RowKey};
    let keys = keys.iter().map(|key| i64::from(key.value()));
    Ok(quarantine::Entity::find()
        .select_only()
        .columns([ColumnId, RowKey])
        .filter(ResolvedAt.is_null())
        .filter(FoundKeyId.is_in(keys))
        .filter(unmet(rotation))
        .into_tuple()
        .all(db)
        .await?)
}

/// Counts quarantined values as met in the present pass if a census saw their starts where the pass opened none,
/// however often: their rows moved while they were read.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn stands_still(
    unit: &Unit,
    rotation: &Rotation,
    column: Uuid,
    starts: &[(String, u64)],
) -> Result<(), StoreError> {
    use quarantine::Column::{ColumnId, ResolvedAt, RowKey};
    if starts.is_empty() {
        return Ok(());
    }
    let starts: HashSet<_> = starts.iter().map(|(start, _)| start.as_str()).collect();
    let mut there = not_met(unit.db(), rotation, column).await?;
    there.retain(|row_key| {
        let last = row_key.rsplit_once(' ');
        last.is_some_and(|(_, last)| starts.contains(last))
    });
    for some in there.chunks(AT_ONCE) {
        let met = quarantine::ActiveModel {
            rotation_id: Set(rotation.id),
            pass: Set(Some(rotation.pass)),
            ..Default::default()
        };
        quarantine::Entity::update_many()
            .set(met)
            .filter(ColumnId.eq(column))
            .filter(ResolvedAt.is_null())
            .filter(RowKey.is_in(some))
            .exec(unit.db())
            .await?;
    }
    Ok(())
}

/// Counts quarantined values as not met if a census did not see them where the present pass met them: they were mended,
/// or their rows moved, and then they are counted where they are now. A census looks only at values under a key that is
/// not `settled`, so the others stay.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn stands_elsewhere(
    unit: &Unit,
    rotation: &Rotation,
    column: Uuid,
    (row_keys, settled): (&[String], &HashSet<KeyId>),
) -> Result<(), StoreError> {
    use quarantine::Column::{ColumnId, FoundKeyId, Pass, RotationId, RowKey};
    let settled: Vec<i64> = settled.iter().map(|key| i64::from(key.value())).collect();
    for some in row_keys.chunks(AT_ONCE) {
        let unmet = quarantine::ActiveModel {
            pass: Set(None),
            ..Default::default()
        };
        quarantine::Entity::update_many()
            .set(unmet)
            .filter(ColumnId.eq(column))
            .filter(RotationId.eq(rotation.id))
            .filter(Pass.eq(rotation.pass))
            .filter(RowKey.is_in(some))
            .filter(FoundKeyId.is_not_null())
            .filter(FoundKeyId.is_not_in(settled.iter().copied()))
            .exec(unit.db())
            .await?;
    }
    Ok(())
}

fn unmet(rotation: &Rotation) -> SimpleExpr {
    use quarantine::Column::{Pass, RotationId};
    // Rows of older programs have no pass.
    RotationId
        .ne(rotation.id)
        .or(Pass.is_null())
        .or(Pass.ne(rotation.pass))
}

/// Marks as resolved what is in quarantine of these columns and was not met in the rotation's present pass, which read
/// all rows: it was mended or is gone.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resolve_what_was_not_met(
    unit: &Unit,
    rotation: &Rotation,
    columns: impl IntoIterator<Item = Uuid>,
) -> Result<u64, StoreError> {
    use quarantine::Column::ColumnId;
    mark(unit, ColumnId.is_in(columns).and(unmet(rotation))).await
}

async fn mark(unit: &Unit, which: SimpleExpr) -> Result<u64, StoreError> {
    let resolved = quarantine::ActiveModel {
        resolved_at: Set(Some(unit.now())),
        ..Default::default()
    };
    let marked = quarantine::Entity::update_many()
        .set(resolved)
        .filter(quarantine::Column::ResolvedAt.is_null())
        .filter(which)
        .exec(unit.db())
        .await?;
    Ok(marked.rows_affected)
}

/// The rows of a column in quarantine.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_column(
    db: &impl ConnectionTrait,
    column: Uuid,
) -> Result<Vec<Quarantined>, StoreError> {
    let of_column = quarantine::Column::ColumnId.eq(column);
    let open = quarantine::Column::ResolvedAt.is_null();
    Ok(quarantine::Entity::find()
        .filter(of_column)
        .filter(open)
        .all(db)
        .await?)
}

/// Resolves everything of a column that is in quarantine.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resolve_column(unit: &Unit, column: Uuid) -> Result<(), StoreError> {
    mark(unit, quarantine::Column::ColumnId.eq(column)).await?;
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

    /// `_` is any character to a pattern.
    #[tokio::test]
    async fn a_part_is_forgotten_and_none_whose_name_is_like_its_own() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let (keyring, column) = (store.keyring("phi").await, Uuid::now_v7());
            let unit = store.unit().await;
            let ana = Principal::os("ana", "clinic");
            let rotation = rotations::start(&unit, keyring.id, RotationReason::Request, &ana);
            let rotation = rotation.await.unwrap();
            let part = |name: &str| PartId {
                name: name.to_owned(),
                form: "1".to_owned(),
            };
            for name in ["p_1", "p11", r"p%\_1"] {
                let new = NewQuarantine {
                    column,
                    row_key: format!("{} 7 aa", part(name)),
                    row_name: None,
                    found: None,
                    reason: QuarantineReason::Unopened,
                    detail: None,
                    whole: None,
                };
                add(&unit, &rotation, new).await.unwrap();
            }
            for (name, left) in [("p_1", 2), (r"p%\_1", 1), ("p11", 0)] {
                forget_part(&unit, &rotation, &part(name)).await.unwrap();
                let met = of_pass(unit.db(), &rotation, column).await.unwrap();
                assert_eq!(met, left, "{name}");
            }
        }
    }

    /// A later pass may read the two rows in different batches.
    #[tokio::test]
    async fn a_value_of_another_row_stays_known_as_that_while_it_is_unchanged() {
        use QuarantineReason::{NotWritten, Unopened, WrongContext};
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let (keyring, column) = (store.keyring("phi").await, Uuid::now_v7());
            let unit = store.unit().await;
            let ana = Principal::os("ana", "clinic");
            let rotation = rotations::start(&unit, keyring.id, RotationReason::Request, &ana);
            let rotation = rotation.await.unwrap();
            for (reason, said) in [
                (Unopened, Unopened),
                (WrongContext, WrongContext),
                (Unopened, WrongContext),
                (NotWritten, NotWritten),
                (Unopened, Unopened),
            ] {
                let new = NewQuarantine {
                    column,
                    row_key: "1 7 aa".to_owned(),
                    row_name: None,
                    found: None,
                    reason,
                    detail: None,
                    whole: None,
                };
                add(&unit, &rotation, new).await.unwrap();
                let left = left_by(unit.db(), &rotation, 2).await.unwrap();
                let [left] = &left[..] else {
                    panic!("{left:?}")
                };
                assert_eq!(left.reason(), said);
            }
        }
    }
}
