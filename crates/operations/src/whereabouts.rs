//! Where protected tables lie: whether a source is the database that the store means, and what is left in a table.

use rekey_domain::{Found, TextEncoding};
use rekey_sources::{CensusColumn, Source, SourceError, is_same_place};
use rekey_store::columns::{self, Protected, Table};

use crate::look::census_column;

/// Whether a source that was reached by `url` is the database that the store means, as far as that can be
/// shown: it is reached as the store says, or known by what was noted of it.
pub(crate) async fn is_the_stores(
    stored: &columns::Source,
    url: &str,
    source: &dyn Source,
) -> Result<bool, SourceError> {
    if is_same_place(&stored.url, url) {
        return Ok(true);
    }
    let id = source.database_id().await?;
    Ok(id.is_some() && id == stored.database_id)
}

/// What a protected table is called in its database, where the store has another name for it.
pub(crate) async fn renamed(
    source: &dyn Source,
    table: &Table,
) -> Result<Option<String>, SourceError> {
    let Some(oid) = table.oid else {
        return Ok(None);
    };
    match source.describe(&table.relation).await {
        Ok(shape) if shape.oid == Some(oid) => Ok(None),
        Ok(_) | Err(SourceError::NoSuchTable { .. } | SourceError::NotATable { .. }) => {
            source.name_of(oid).await
        }
        Err(error) => Err(error),
    }
}

/// What a census finds in a column of `relation`; first of all as it is protected. SQLite may hold
/// ciphertext in the other encoding there too, which no rotation would move, and which is lost all
/// the same.
pub(crate) async fn counted(
    source: &dyn Source,
    relation: &str,
    column: &Protected,
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    let mut wanted = vec![census_column(column)];
    if column.source.url.starts_with("sqlite") {
        let encoding = match column.spec.encoding {
            TextEncoding::Binary => TextEncoding::Base64,
            TextEncoding::Base64 => TextEncoding::Binary,
        };
        wanted.push(CensusColumn {
            encoding,
            ..census_column(column)
        });
    }
    source.census(relation, &wanted).await
}
