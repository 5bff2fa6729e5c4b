//! Every column of the database that could hold ciphertext.

use std::sync::Arc;

use rekey_domain::TextEncoding;
use sqlx::SqliteConnection;

use super::catalogue::{self, Table};
use crate::{CandidateTable, CensusColumn, CountedBy, SourceError, place::Place};

/// Table by table, in the order of their names. Any column may hold bytes or text, whatever its type.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    database: &Arc<str>,
) -> Result<Vec<CandidateTable>, SourceError> {
    let names = catalogue::names(connection, &Place::database(database)).await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        // What stands before a dot could be taken for a schema.
        let relation = if name.contains('.') {
            format!("main.{name}")
        } else {
            name
        };
        let place = Place::new(database, &relation);
        let table = Table::find_to_look_at(connection, place).await?;
        let columns = table.shape.columns.iter().flat_map(|column| {
            [TextEncoding::Binary, TextEncoding::Base64].map(|encoding| CensusColumn {
                name: column.name.clone(),
                encoding,
                by: CountedBy::Form,
            })
        });
        tables.push(CandidateTable {
            columns: columns.collect(),
            full_name: table.shape.full_name,
            relation,
            unreadable: Vec::new(),
        });
    }
    Ok(tables)
}
