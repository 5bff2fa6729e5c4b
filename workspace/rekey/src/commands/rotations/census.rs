//! `rekey census`: values by key, column by column.

use std::collections::HashMap;

use rekey_domain::{ColumnName, Finding, Found, KeyId, KeyName};
use rekey_operations::{CensusRow, too_new_values};
use serde_json::json;

use crate::{
    app::App,
    exit::{self, Exit},
    output::{self, Output, optional},
};

/// Counts and prints. What could not be counted is said beside what was; the exit code is its own.
pub async fn run(app: &App) -> anyhow::Result<Exit> {
    let keys = rekey_operations::key_views(&app.services, &app.principal).await?;
    let names: HashMap<_, _> = keys
        .into_iter()
        .map(|view| (view.key_id, view.key))
        .collect();
    let (mut counted, mut empty, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for table in rekey_operations::census_by_table(&app.services, &app.principal).await? {
        match table.counted {
            Ok(rows) => {
                let without = table.columns.into_iter();
                empty.extend(without.filter(|name| rows.iter().all(|row| row.column != *name)));
                counted.extend(rows);
            }
            Err(error) => failed.push((table.columns, anyhow::Error::from(error))),
        }
    }
    let too_new = too_new(app, &counted).await?;
    match app.output {
        Output::Json => {
            let rows: Vec<_> = counted.iter().map(|row| row_json(row, &names)).collect();
            let failed: Vec<_> = failed.iter().map(failed_json).collect();
            let object = json!({
                "counts": rows, "empty": empty, "not_counted": failed, "findings": too_new,
            });
            output::object("rekey.census/v1", object)?;
        }
        Output::Table => {
            let rows = counted.iter().map(|row| row_text(row, &names));
            let rows = rows.chain(empty.iter().map(empty_text)).collect();
            output::table(["COLUMN", "KEY", "KEY ID", "VALUES"], rows)?;
            for (columns, error) in &failed {
                let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
                output::note(&format!("not counted: {}: {error:#}", columns.join(", ")));
            }
            for finding in &too_new {
                output::note(&format!("{}: {}", finding.subject, finding.problem));
            }
        }
    }
    Ok(failed
        .first()
        .map_or(Exit::Done, |(_, error)| exit::of_error(error)))
}

/// What stands under keys that are standbys here.
async fn too_new(app: &App, counted: &[CensusRow]) -> anyhow::Result<Vec<Finding>> {
    let standbys = rekey_operations::standby_keys(&app.services).await?;
    let of_row = |row: &CensusRow| {
        let subject = format!("column {}", row.column);
        too_new_values(&subject, [(row.found, row.rows)], &standbys)
    };
    Ok(counted.iter().flat_map(of_row).collect())
}

fn failed_json((columns, error): &(Vec<ColumnName>, anyhow::Error)) -> serde_json::Value {
    json!({ "columns": columns, "reason": format!("{error:#}") })
}

/// A column that was counted and holds no value.
fn empty_text(column: &ColumnName) -> [String; 4] {
    let nothing = || optional(None::<KeyId>);
    [column.to_string(), nothing(), nothing(), "0".to_owned()]
}

fn row_json(row: &CensusRow, names: &HashMap<KeyId, KeyName>) -> serde_json::Value {
    let id = key_id(row);
    let key = id.and_then(|id| names.get(&id));
    json!({ "column": row.column, "key": key, "key_id": id, "is_ciphertext": id.is_some(), "is_unreadable": row.found == Found::Unreadable, "is_empty": row.found == Found::Empty, "values": row.rows })
}

fn row_text(row: &CensusRow, names: &HashMap<KeyId, KeyName>) -> [String; 4] {
    let id = key_id(row);
    let key = match id {
        None if row.found == Found::Unreadable => "unreadable".to_owned(),
        None if row.found == Found::Empty => "empty".to_owned(),
        None => "no ciphertext".to_owned(),
        Some(id) => names
            .get(&id)
            .map_or_else(|| "no key of ours".to_owned(), ToString::to_string),
    };
    [
        row.column.to_string(),
        key,
        optional(id),
        row.rows.to_string(),
    ]
}

fn key_id(row: &CensusRow) -> Option<KeyId> {
    match row.found {
        Found::Key(id) => Some(id),
        Found::NotCiphertext | Found::Empty | Found::Unreadable => None,
    }
}
