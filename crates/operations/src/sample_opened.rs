//! Whether values of a column open under an id: what tells a column that was renamed from another one.

use rekey_client::ClientError;
use rekey_domain::{BindValue, KeyringName, TextEncoding};
use rekey_envelope::{Ciphertext, associated_data, decode_base64};
use rekey_sources::{ReadColumn, ReadQuery, Source, SourceError, SourceRow, StoredValue};

use crate::{OperationError, Services};

/// Rows of a part that are looked at.
const ROWS: u32 = 500;
/// Parts that are looked at.
const PARTS: usize = 8;
/// Values that are tried.
const VALUES: usize = 20;
/// What is read of a part.
const BYTES: usize = 1 << 20;

/// Some values of a column that have the form of ciphertext, with what their rows bind them to.
pub(crate) struct Sample(Vec<(Vec<BindValue>, Vec<u8>)>);

/// Where to look.
pub(crate) struct Where<'a> {
    /// The table.
    pub relation: &'a str,
    /// The column in the database.
    pub column: &'a str,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// The columns that bind it.
    pub bind_columns: &'a [String],
}

impl Sample {
    /// Reads some, from the start of each part.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(crate) async fn read(source: &dyn Source, at: &Where<'_>) -> Result<Self, SourceError> {
        let mut values = Vec::new();
        for part in source.parts(at.relation).await?.into_iter().take(PARTS) {
            let range = source.next_range(at.relation, &part, None, ROWS).await?;
            let Some(range) = range else { continue };
            let query = ReadQuery {
                relation: at.relation.to_owned(),
                part: part.id,
                range,
                columns: vec![ReadColumn {
                    name: at.column.to_owned(),
                    encoding: at.encoding,
                    settled: Vec::new(),
                }],
                bind_columns: at.bind_columns.to_vec(),
            };
            let page = source.read(&query, None, BYTES).await?;
            values.extend(page.rows.into_iter().filter_map(ciphertext));
            if values.len() >= VALUES {
                break;
            }
        }
        values.truncate(VALUES);
        Ok(Self(values))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them open under this id with keys of this keyring.
    ///
    /// # Errors
    /// [`OperationError::Client`] where a key cannot be had.
    pub(crate) async fn open(
        &self,
        services: &Services,
        keyring: &KeyringName,
        column_id: &str,
    ) -> Result<usize, OperationError> {
        let mut opened = 0;
        for (binds, bytes) in &self.0 {
            let ciphertext = Ciphertext::parse(bytes).map_err(|_| ClientError::NotCiphertext)?;
            let key = services.client.decryption_key(keyring, ciphertext.key_id());
            let key = match key.await {
                Err(ClientError::UnknownKey { .. }) => continue,
                key => key?,
            };
            let aad = associated_data(column_id, binds);
            opened += usize::from(key.decrypt(&ciphertext, &aad).is_ok());
        }
        Ok(opened)
    }
}

fn ciphertext(row: SourceRow) -> Option<(Vec<BindValue>, Vec<u8>)> {
    let binds = row.binds.into_iter().collect::<Option<Vec<_>>>()?;
    let bytes = match row.values.into_iter().next()?? {
        StoredValue::Bytes(bytes) => bytes,
        StoredValue::Text(text) => decode_base64(&text).ok()?,
        StoredValue::Other | StoredValue::Unreadable(_) => return None,
    };
    Ciphertext::parse(&bytes).ok()?;
    Some((binds, bytes))
}
