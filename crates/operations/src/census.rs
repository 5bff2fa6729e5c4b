//! A census: counts values by key id, column by column, table by table.

use rekey_domain::{ColumnName, Found};
use rekey_sources::CensusColumn;
use rekey_store::columns::{self, Protected};

use crate::{OperationError, Services};

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
    for table in tables(columns) {
        rows.extend(count_table(services, &table).await?);
    }
    Ok(rows)
}

/// The columns of each table, in the order of the first of them.
pub(crate) fn tables(columns: &[Protected]) -> Vec<Vec<&Protected>> {
    let mut tables: Vec<Vec<&Protected>> = Vec::new();
    for column in columns {
        let known = tables
            .iter_mut()
            .find(|table| table[0].table.id == column.table.id);
        match known {
            Some(table) => table.push(column),
            None => tables.push(vec![column]),
        }
    }
    tables
}

/// All columns of a table at once: a census is of one moment.
async fn count_table(
    services: &Services,
    columns: &[&Protected],
) -> Result<Vec<CensusRow>, OperationError> {
    let source = services.source(&columns[0].source).await?;
    let wanted = columns.iter().map(|column| CensusColumn {
        name: column.spec.name.column.clone(),
        encoding: column.spec.encoding,
    });
    let wanted: Vec<_> = wanted.collect();
    let relation = &columns[0].table.relation;
    let counted = source.census(relation, &wanted).await?;
    let mut rows = Vec::new();
    for (column, counts) in columns.iter().zip(counted) {
        rows.extend(counts.into_iter().map(|(found, rows)| CensusRow {
            column: column.spec.name.clone(),
            column_id: column.id,
            found,
            rows,
        }));
    }
    Ok(rows)
}
