//! Rows: which values are moved in one statement, which go to quarantine.

use std::{collections::HashSet, sync::Arc};

use rekey_client::ClientError;
use rekey_domain::{BindValue, KeyId, KeyringName, QuarantineReason};
use rekey_envelope::{DataKey, associated_data};
use rekey_operations::{OperationError, Services};
use rekey_sources::{ColumnUpdate, RowUpdate, SourceRow, StoredValue};
use rekey_store::{columns::Protected, keys, quarantine::NewQuarantine};

use crate::{
    batch::Work,
    value::{self, Opened},
};

/// Values that fail to open and are looked up under every other place of their page, at most.
const SWAPS_LOOKED_FOR: usize = 64;
/// Rows ciphered between two looks at what else there is to do.
const YIELD_EVERY: usize = 64;

/// The keys of the batch's keyring, unwrapped as they are met.
pub struct Keys {
    keyring: KeyringName,
    ours: HashSet<KeyId>,
    open: Vec<Arc<DataKey>>,
}

impl Keys {
    /// Keys of `keyring`, whose ids are `ours`.
    pub fn new(keyring: KeyringName, ours: HashSet<KeyId>) -> Self {
        Self {
            keyring,
            ours,
            open: Vec::new(),
        }
    }

    /// The key, or why values under it stay as they are.
    async fn key(
        &mut self,
        services: &Services,
        id: KeyId,
    ) -> Result<Result<Arc<DataKey>, QuarantineReason>, OperationError> {
        if let Some(key) = self.open.iter().find(|key| key.id() == id) {
            return Ok(Ok(key.clone()));
        }
        if !self.ours.contains(&id) {
            let foreign = keys::find(services.store.db(), id).await?.is_some();
            let reason = if foreign {
                QuarantineReason::OtherKeyring
            } else {
                QuarantineReason::MissingKey
            };
            return Ok(Err(reason));
        }
        match services.client.decryption_key(&self.keyring, id).await {
            Ok(key) => {
                self.open.push(key.clone());
                Ok(Ok(key))
            }
            Err(ClientError::UnknownKey { .. }) => Ok(Err(QuarantineReason::MissingKey)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of a page's rows.
#[derive(Default)]
pub struct Moved {
    /// One update a row.
    pub updates: Vec<RowUpdate>,
    /// Values left as they are.
    pub quarantine: Vec<NewQuarantine>,
}

/// Decrypts and encrypts every value of the rows; writes nothing.
pub async fn re_encrypt(
    work: &mut Work<'_>,
    rows: Vec<SourceRow>,
) -> Result<Moved, OperationError> {
    let values: u64 = rows
        .iter()
        .map(|row| row.values.iter().flatten().count() as u64)
        .sum();
    // Drawn before the first encryption, and refused when the key is no longer primary or the lease
    // to encrypt is over (rule 8).
    let keyring = work.keys.keyring.clone();
    let target = work
        .services
        .client
        .encryption_key(&keyring, values)
        .await?;
    if target.id() != work.target {
        let what = format!("the primary key of {keyring}");
        return Err(OperationError::Store(rekey_store::StoreError::Stale {
            what,
        }));
    }
    let mut moved = Moved::default();
    let sealed = seal(work, &target, &rows, &mut moved.quarantine).await?;
    moved.updates = updates(work, rows, sealed);
    Ok(moved)
}

/// The new values, row by row and column by column; None where a value stays as it is.
async fn seal(
    work: &mut Work<'_>,
    target: &DataKey,
    rows: &[SourceRow],
    quarantine: &mut Vec<NewQuarantine>,
) -> Result<Vec<Option<StoredValue>>, OperationError> {
    let places = Places {
        rows,
        columns: &work.columns,
        bind_columns: &work.query.bind_columns,
    };
    let mut sealed = Vec::with_capacity(rows.len() * work.columns.len());
    let mut looked_for = 0;
    for (count, row) in rows.iter().enumerate() {
        if count % YIELD_EVERY == 0 {
            // Ciphering is all work and no waiting; who holds a source's lock must get its turn.
            tokio::task::yield_now().await;
        }
        for (index, stored) in row.values.iter().enumerate() {
            let Some(stored) = stored else {
                sealed.push(None);
                continue;
            };
            let column = &work.columns[index];
            let found = value::key_id(stored, column.spec.encoding);
            let opened = match found {
                None => Opened::Not(QuarantineReason::NotCiphertext),
                Some(id) => match work.keys.key(work.services, id).await? {
                    Err(reason) => Opened::Not(reason),
                    Ok(key) => places.open(&key, row, index, stored, &mut looked_for),
                },
            };
            sealed.push(match opened {
                Opened::Moved { plaintext, aad } => {
                    let encoding = column.spec.encoding;
                    Some(value::seal(target, &plaintext, &aad, encoding)?)
                }
                Opened::Not(reason) => {
                    quarantine.push(NewQuarantine {
                        column: column.id,
                        row_key: row.key.to_string(),
                        found,
                        reason,
                    });
                    None
                }
            });
        }
    }
    Ok(sealed)
}

/// One update for each row that has a new value.
fn updates(
    work: &Work<'_>,
    rows: Vec<SourceRow>,
    sealed: Vec<Option<StoredValue>>,
) -> Vec<RowUpdate> {
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
        (!columns.is_empty()).then_some(RowUpdate { key, columns })
    };
    rows.into_iter().filter_map(update).collect()
}

/// The places that values of a page may be bound to.
struct Places<'a> {
    rows: &'a [SourceRow],
    columns: &'a [Protected],
    bind_columns: &'a [String],
}

impl Places<'_> {
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
            return Opened::Not(QuarantineReason::WrongContext);
        };
        if let Some(plaintext) = value::open(key, stored, encoding, &aad) {
            return Opened::Moved { plaintext, aad };
        }
        *looked_for += 1;
        let swapped = *looked_for <= SWAPS_LOOKED_FOR
            && self
                .others()
                .any(|aad| value::open(key, stored, encoding, &aad).is_some());
        Opened::Not(if swapped {
            QuarantineReason::WrongContext
        } else {
            QuarantineReason::Corrupt
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
