//! A census: counts values by key id, column by column, in ranges.

use std::collections::BTreeMap;

use rekey_domain::{ColumnName, Found};
use rekey_store::columns::{self, Protected};

use crate::{OperationError, Services};

/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;

/// How many values of a column stand under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusRow {
    /// The column.
    pub column: ColumnName,
    /// The column's id in the store.
    pub column_id: uuid::Uuid,
    /// What the values are.
    pub found: Found,
    /// How many.
    pub rows: u64,
}

/// Counts every protected column.
///
/// # Errors
/// [`OperationError::Source`] when a source is not reached: half a census is none.
pub async fn census(services: &Services) -> Result<Vec<CensusRow>, OperationError> {
    let columns = columns::all(services.store.db()).await?;
    census_of_columns(services, &columns).await
}

/// Counts these columns.
///
/// # Errors
/// As [`census`].
pub async fn census_of_columns(
    services: &Services,
    columns: &[Protected],
) -> Result<Vec<CensusRow>, OperationError> {
    let mut rows = Vec::new();
    for column in columns {
        for (found, count) in count_column(services, column).await? {
            let (column, column_id) = (column.spec.name.clone(), column.id);
            rows.push(CensusRow {
                column,
                column_id,
                found,
                rows: count,
            });
        }
    }
    Ok(rows)
}

async fn count_column(
    services: &Services,
    column: &Protected,
) -> Result<BTreeMap<Found, u64>, OperationError> {
    let source = services.source(&column.source).await?;
    let (relation, name) = (&column.table.relation, &column.spec.name.column);
    let mut counts = BTreeMap::new();
    let mut after = None;
    while let Some(range) = source.next_range(relation, after, RANGE_ROWS).await? {
        for (found, rows) in source
            .census(relation, name, column.spec.encoding, range)
            .await?
        {
            *counts.entry(found).or_default() += rows;
        }
        after = Some(range.last);
    }
    Ok(counts)
}
