//! `rekey census`: values by key, column by column.

use std::collections::HashMap;

use rekey_domain::{Found, KeyId, KeyName};
use rekey_operations::CensusRow;
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional},
};

/// Counts and prints.
pub async fn run(app: &App) -> anyhow::Result<Exit> {
    let counted = rekey_operations::census(&app.services).await?;
    let keys = rekey_operations::key_views(&app.services).await?;
    let names: HashMap<_, _> = keys
        .into_iter()
        .map(|view| (view.key_id, view.key))
        .collect();
    match app.output {
        Output::Json => {
            let rows: Vec<_> = counted.iter().map(|row| row_json(row, &names)).collect();
            output::object("rekey.census/v1", json!({ "counts": rows }))?;
        }
        Output::Table => {
            let rows = counted.iter().map(|row| row_text(row, &names)).collect();
            output::table(["COLUMN", "KEY", "KEY ID", "VALUES"], rows)?;
        }
    }
    Ok(Exit::Done)
}

fn row_json(row: &CensusRow, names: &HashMap<KeyId, KeyName>) -> serde_json::Value {
    let id = key_id(row);
    let key = id.and_then(|id| names.get(&id));
    json!({ "column": row.column, "key": key, "key_id": id, "is_ciphertext": id.is_some(), "values": row.rows })
}

fn row_text(row: &CensusRow, names: &HashMap<KeyId, KeyName>) -> [String; 4] {
    let id = key_id(row);
    let key = match id {
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
        Found::NotCiphertext => None,
    }
}
