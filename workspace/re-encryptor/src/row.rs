//! Rows: which values are moved in one statement, which go to quarantine.

use std::{collections::HashMap, sync::Arc};

use rekey_client::{ClientError, LeaseError};
use rekey_domain::{BindValue, KeyId, QuarantineReason};
use rekey_envelope::{DataKey, associated_data};
use rekey_operations::OperationError;
use rekey_sources::{ColumnUpdate, RowUpdate, SourceRow, StoredValue, ValueId};
use rekey_store::{StoreError, columns::Protected, quarantine};
use uuid::Uuid;

use crate::{
    account::Counted,
    keys::{Met, Released},
    value::{self, Opened},
    work::Work,
};

/// How many values of a page that fail to open are tried in other places of the page, at most.
const SWAPS_LOOKED_FOR: usize = 64;
/// Rows to cipher before other tasks get a turn.
const YIELD_EVERY: usize = 64;

/// What became of a page's rows.
#[derive(Default)]
pub struct Moved {
    /// What names a key below the target.
    pub to_move: Counted,
    /// One update a row.
    pub updates: Vec<RowUpdate>,
    /// What people know the row of each by.
    pub names: Vec<Option<String>>,
    /// Values left as they are.
    pub quarantine: Vec<Unmoved>,
    /// Values that opened and need not be moved.
    pub opened: u64,
    /// Those of them whose bytes are in quarantine.
    pub reopened: Vec<(Uuid, ValueId)>,
}

/// A value left as it is, with a reason.
pub struct Unmoved {
    /// The protected column.
    pub column: Uuid,
    /// Which it is.
    pub id: ValueId,
    /// What people know its row by.
    pub row_name: Option<String>,
    /// The key id its first bytes name, if they name one.
    pub found: Option<KeyId>,
    /// Why.
    pub reason: QuarantineReason,
    /// What more is known of why.
    pub detail: Option<String>,
    /// The hash of all of it, where a person may release it.
    pub whole: Option<String>,
}

/// Opens every value of the rows, and seals anew those that are to be moved; writes nothing.
///
/// Keys are unwrapped first, so that nothing long is awaited between the right to encrypt and
/// encrypting. The right is looked at again before each few rows and at the end.
pub async fn re_encrypt(
    work: &mut Work<'_>,
    rows: Vec<SourceRow>,
) -> Result<Moved, OperationError> {
    let found = meet_keys(work, &rows).await?;
    let to_move = count(work, &found);
    let mut moved = Moved {
        to_move,
        ..Moved::default()
    };
    if to_move.values == 0 {
        seal(work, None, &rows, &found, &mut moved).await?;
        return Ok(moved);
    }
    // Drawn before the first encryption, and refused when the key is no longer primary or the lease
    // to encrypt is over (rule 8).
    let keyring = work.keys.keyring.clone();
    let asked = work
        .services
        .client
        .encryption_key(&keyring, to_move.values);
    let target = match asked.await {
        // It was reported, and the rotation superseded: whoever looks again sees that.
        Err(ClientError::Lease(LeaseError::Compromised { .. } | LeaseError::NoPrimary { .. })) => {
            return Err(not_primary(work));
        }
        asked => asked?,
    };
    // A lease that ends now may be for the key before.
    if target.id() != work.target {
        return Err(not_primary(work));
    }
    let sealed = seal(work, Some(&target), &rows, &found, &mut moved).await?;
    hold_right(work).await?;
    (moved.updates, moved.names) = updates(work, rows, sealed);
    Ok(moved)
}

/// Sees that the target may encrypt now, with a new lease where the last has ended.
async fn hold_right(work: &Work<'_>) -> Result<(), OperationError> {
    let (client, keyring) = (&work.services.client, &work.keys.keyring);
    if client.may_encrypt(keyring, work.target)
        || client.encryption_key(keyring, 0).await?.id() == work.target
    {
        return Ok(());
    }
    Err(not_primary(work))
}

/// The batch's target is not the primary key, or this process has not heard of the switch yet.
fn not_primary(work: &Work<'_>) -> OperationError {
    let what = format!("the primary key of {}", work.keys.keyring);
    OperationError::Store(StoreError::Stale { what })
}

/// What names a key below the target.
pub fn to_move(work: &Work<'_>, rows: &[SourceRow]) -> Counted {
    count(work, &named(work, rows))
}

fn count(work: &Work<'_>, named: &[Option<KeyId>]) -> Counted {
    let is_moved = |id: &&Option<KeyId>| id.is_some_and(|id| !work.settled.contains(&id));
    let mut counted = Counted::default();
    for row in named.chunks(work.columns.len()) {
        let values = row.iter().filter(is_moved).count() as u64;
        counted.rows += u64::from(values > 0);
        counted.values += values;
    }
    counted
}

/// The key id that each value names, row by row and column by column.
fn named(work: &Work<'_>, rows: &[SourceRow]) -> Vec<Option<KeyId>> {
    let mut named = Vec::with_capacity(rows.len() * work.columns.len());
    for row in rows {
        let values = row.values.iter().zip(&work.columns);
        named.extend(
            values.map(|(stored, column)| value::key_id(stored.as_ref()?, column.spec.encoding)),
        );
    }
    named
}

/// The same, with the keys at hand.
async fn meet_keys(
    work: &mut Work<'_>,
    rows: &[SourceRow],
) -> Result<Vec<Option<KeyId>>, OperationError> {
    let named = named(work, rows);
    for id in named.iter().flatten() {
        work.keys.meet(work.services, *id).await?;
    }
    work.keys.released = look_up_released(work, rows, &named).await?;
    Ok(named)
}

/// Of values under closed keys those that a person released, with what opens them.
async fn look_up_released(
    work: &Work<'_>,
    rows: &[SourceRow],
    named: &[Option<KeyId>],
) -> Result<Released, OperationError> {
    let is_closed = |id: &Option<KeyId>| id.is_some_and(|id| work.keys.is_closed(id));
    if !named.iter().any(is_closed) {
        return Ok(Released::default());
    }
    let mut closed = HashMap::new();
    for (row, ids) in rows.iter().zip(named.chunks(work.columns.len())) {
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| is_closed(id)) {
            if let (Some(key), Some(whole)) = (id, whole(work, row, index)) {
                closed.insert((work.columns[index].id, whole), *key);
            }
        }
    }
    let values: Vec<_> = closed.keys().cloned().collect();
    let values = quarantine::released(work.services.store.db(), &values).await?;
    let mut keys = HashMap::new();
    for id in values.iter().filter_map(|value| closed.get(value)) {
        let key = work.services.client.decryption_key(&work.keys.keyring, *id);
        keys.insert(*id, key.await?);
    }
    Ok(Released { values, keys })
}

/// The new values, row by row and column by column; None where a value stays as it is.
async fn seal(
    work: &Work<'_>,
    target: Option<&DataKey>,
    rows: &[SourceRow],
    found: &[Option<KeyId>],
    moved: &mut Moved,
) -> Result<Vec<Option<StoredValue>>, OperationError> {
    let binds = Binds {
        rows,
        columns: &work.columns,
        bind_columns: &work.query.bind_columns,
    };
    let mut sealed = Vec::with_capacity(found.len());
    let mut found = found.iter();
    let mut looked_for = 0;
    for (count, row) in rows.iter().enumerate() {
        if count % YIELD_EVERY == 0 {
            // Ciphering never waits, so other tasks, which may hold a lock of a source, get a turn here.
            tokio::task::yield_now().await;
            if target.is_some() {
                hold_right(work).await?;
            }
        }
        for (index, stored) in row.values.iter().enumerate() {
            let found = *found.next().expect("one for each value");
            let Some(stored) = stored else {
                sealed.push(None);
                continue;
            };
            let column = &work.columns[index];
            let damage = Damage::of(row, stored);
            let opened = match found.map(|id| &work.keys.met[&id]) {
                _ if damage.is_some() => Opened::Not(QuarantineReason::Unreadable),
                None => Opened::Not(QuarantineReason::NotCiphertext),
                Some(Met::Key(key)) => binds.open(key, row, index, stored, &mut looked_for),
                Some(Met::Not(reason)) => match released(work, found, row, index) {
                    Some(key) => binds.open(key, row, index, stored, &mut looked_for),
                    None => Opened::Not(*reason),
                },
            };
            sealed.push(match (opened, target) {
                (Opened::Moved { .. }, _) if found.is_some_and(|id| work.settled.contains(&id)) => {
                    moved.opened += 1;
                    let id =
                        || ValueId::of(&work.query.part, row.key, stored, column.spec.encoding);
                    moved.reopened.extend(reopened(work, column.id, id));
                    None
                }
                (Opened::Moved { plaintext, aad }, Some(target)) => {
                    Some(value::seal(target, &plaintext, &aad, column.spec.encoding)?)
                }
                (Opened::Moved { .. }, None) => unreachable!("what moves was counted"),
                (Opened::Not(reason), _) => {
                    moved.quarantine.push(Unmoved {
                        column: column.id,
                        id: ValueId::of(&work.query.part, row.key, stored, column.spec.encoding),
                        row_name: row.name.clone(),
                        found: damage.as_ref().map_or(found, |damage| damage.key.or(found)),
                        reason,
                        detail: damage.map(|damage| damage.detail),
                        whole: whole_if_late(work, row, index, reason),
                    });
                    None
                }
            });
        }
    }
    Ok(sealed)
}

/// A value that opened, if its bytes are in quarantine.
fn reopened(
    work: &Work<'_>,
    column: Uuid,
    id: impl FnOnce() -> ValueId,
) -> Option<(Uuid, ValueId)> {
    let in_quarantine = work.in_quarantine.get(&column)?;
    let id = id();
    let is_one = in_quarantine.contains(id.start()?);
    is_one.then_some((column, id))
}

/// The key of a value under a closed key that a person released.
fn released<'a>(
    work: &'a Work<'_>,
    found: Option<KeyId>,
    row: &SourceRow,
    column: usize,
) -> Option<&'a DataKey> {
    let id = found.filter(|id| work.keys.is_closed(*id))?;
    let whole = whole(work, row, column)?;
    work.keys.released(id, work.columns[column].id, whole)
}

fn whole_if_late(
    work: &Work<'_>,
    row: &SourceRow,
    column: usize,
    reason: QuarantineReason,
) -> Option<String> {
    let is_late = reason == QuarantineReason::WrittenAfterCompromise;
    is_late.then(|| whole(work, row, column)).flatten()
}

fn whole(work: &Work<'_>, row: &SourceRow, column: usize) -> Option<String> {
    let encoding = work.columns[column].spec.encoding;
    ValueId::whole(row.values[column].as_ref()?, encoding)
}

/// What the source cannot read of a value, or of what its row binds it to.
struct Damage {
    detail: String,
    /// The key that its first bytes name.
    key: Option<KeyId>,
}

impl Damage {
    fn of(row: &SourceRow, stored: &StoredValue) -> Option<Self> {
        if let StoredValue::Unreadable(damage) = stored {
            return Some(Self {
                detail: damage.code.clone(),
                key: damage.key(),
            });
        }
        let code = row.binds_damaged.as_ref()?;
        Some(Self {
            detail: format!("{code}, in a column that it is bound to"),
            key: None,
        })
    }
}

/// One update for each row that has a new value, and what people know the row by.
fn updates(
    work: &Work<'_>,
    rows: Vec<SourceRow>,
    sealed: Vec<Option<StoredValue>>,
) -> (Vec<RowUpdate>, Vec<Option<String>>) {
    let mut sealed = sealed.into_iter();
    let names = work.columns.iter();
    let names: Vec<Arc<str>> = names
        .map(|column| column.spec.name.column.as_str().into())
        .collect();
    let update = |row: SourceRow| {
        let values = row.values.into_iter().zip(&names).zip(&work.columns);
        let columns = values.filter_map(|((old, name), column)| {
            let new = sealed.next().expect("one for each value")?;
            Some(ColumnUpdate {
                name: Arc::clone(name),
                encoding: column.spec.encoding,
                old: old
                    .expect("what was sealed was there")
                    .to_compare(column.spec.encoding),
                new,
            })
        });
        let columns: Vec<_> = columns.collect();
        let key = row.key;
        (!columns.is_empty()).then_some((RowUpdate { key, columns }, row.name))
    };
    rows.into_iter().filter_map(update).unzip()
}

/// The values of a row that an update of ours was kept from.
pub fn withheld<'a>(
    work: &'a Work<'_>,
    update: &'a RowUpdate,
    name: Option<&'a String>,
    by: &'a str,
) -> impl Iterator<Item = Unmoved> + 'a {
    update.columns.iter().map(move |column| {
        let (id, found) = ValueId::of_replaced(&work.query.part, update.key, column);
        let mut columns = work.columns.iter();
        let protected = columns.find(|one| one.spec.name.column == *column.name);
        Unmoved {
            column: protected.expect("an update is of protected columns").id,
            id,
            row_name: name.cloned(),
            found,
            reason: QuarantineReason::NotWritten,
            detail: Some(by.to_owned()),
            whole: None,
        }
    })
}

/// What values of a page may be bound to.
struct Binds<'a> {
    rows: &'a [SourceRow],
    columns: &'a [Protected],
    bind_columns: &'a [String],
}

impl Binds<'_> {
    /// Opens a value at its place; if it does not open, says whether it belongs to another.
    fn open(
        &self,
        key: &DataKey,
        row: &SourceRow,
        column: usize,
        stored: &StoredValue,
        looked_for: &mut usize,
    ) -> Opened {
        let encoding = self.columns[column].spec.encoding;
        let Some(aad) = self.associated_data(row, column) else {
            return Opened::Not(QuarantineReason::Unbound);
        };
        if let Some(plaintext) = value::open(key, stored, encoding, &aad) {
            return Opened::Moved { plaintext, aad };
        }
        *looked_for += 1;
        let swapped = *looked_for <= SWAPS_LOOKED_FOR
            && self
                .others()
                .any(|other| value::open(key, stored, encoding, &other).is_some());
        Opened::Not(if swapped {
            QuarantineReason::WrongContext
        } else {
            QuarantineReason::Unopened
        })
    }

    fn others(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let columns = 0..self.columns.len();
        self.rows.iter().flat_map(move |row| {
            columns
                .clone()
                .filter_map(|column| self.associated_data(row, column))
        })
    }

    fn associated_data(&self, row: &SourceRow, column: usize) -> Option<Vec<u8>> {
        let spec = &self.columns[column].spec;
        let value = |name: &String| -> Option<BindValue> {
            let index = self.bind_columns.iter().position(|known| known == name)?;
            row.binds.get(index)?.clone()
        };
        let parts: Option<Vec<BindValue>> = spec.bind_columns.iter().map(value).collect();
        Some(associated_data(&spec.column_id, &parts?))
    }
}
