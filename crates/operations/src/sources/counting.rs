//! A source counts one table, anew where a part of it was written anew meanwhile.

use rekey_domain::Found;
use rekey_sources::{CensusColumn, Counted, PassToShow, Source, SourceError};

/// How often a census is begun anew where a part of a table was written anew under it.
pub(crate) const ATTEMPTS: usize = 5;

/// A census of one table, begun anew where a part of it was written anew meanwhile.
pub(crate) async fn counted(
    source: &dyn Source,
    relation: &str,
    columns: &[CensusColumn],
    pass: Option<&PassToShow>,
) -> Result<Vec<Vec<Counted>>, SourceError> {
    for _ in 1..ATTEMPTS {
        match source.census(relation, columns, pass).await {
            Err(SourceError::PartChanged { .. }) => {}
            counted => return counted,
        }
    }
    source.census(relation, columns, pass).await
}

/// What was counted, column by column, without what of it a pass had left.
pub(crate) fn values(columns: &[Vec<Counted>]) -> Vec<Vec<(Found, u64)>> {
    let of_column = |column: &Vec<Counted>| column.iter().map(Counted::values).collect();
    columns.iter().map(of_column).collect()
}
