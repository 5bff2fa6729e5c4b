//! Columns whose text could hold ciphertext among other things, and which keys some of their rows name there.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use rekey_domain::TextEncoding;
use rekey_envelope::{Ciphertext, decode_base64};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{candidates, catalogue::Table, faults::Located, sample};
use crate::{
    SourceError, TextColumn, TextForm, TextTable, Texts,
    embedded::{self, LOOKED_THROUGH},
};

/// Every column of every table: any may hold anything.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    database: &Arc<str>,
) -> Result<Vec<TextTable>, SourceError> {
    let tables = candidates::find(connection, database).await?.into_iter();
    let tables = tables.map(|table| TextTable {
        columns: table
            .columns
            .into_iter()
            .filter(|column| column.encoding == TextEncoding::Binary)
            .map(|column| TextColumn {
                name: column.name,
                form: TextForm::Output,
            })
            .collect(),
        relation: table.relation,
        full_name: table.full_name,
        not_looked_at: Vec::new(),
    });
    Ok(tables.collect())
}

/// Looks at about `rows` rows.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[TextColumn],
    rows: u32,
) -> Result<Texts, SourceError> {
    let texts = columns.iter().enumerate().map(|(at, column)| {
        let value = table.column(&column.name)?;
        let text = format!("CAST(substr({value}, 1, {LOOKED_THROUGH}) AS BLOB)");
        Ok(format!(
            "CASE WHEN typeof({value}) IN ('text', 'blob') THEN {text} END AS v{at}"
        ))
    });
    let texts: Vec<_> = texts.collect::<Result<_, SourceError>>()?;
    let some = sample::some_rows(connection, table, &texts.join(", "), rows).await?;
    let mut by_slice: BTreeMap<i64, u64> = BTreeMap::new();
    let mut counts = vec![BTreeMap::new(); columns.len()];
    let mut found = sqlx::query(AssertSqlSafe(some.sql)).fetch(connection);
    while let Some(row) = found.try_next().await.at(&table.place)? {
        *by_slice
            .entry(row.try_get(0).at(&table.place)?)
            .or_default() += 1;
        for (at, of_column) in counts.iter_mut().enumerate() {
            let value: Option<&[u8]> = row.try_get(at + 2).at(&table.place)?;
            let value = value.filter(|value| !is_ciphertext(value));
            for key in value.map(embedded::find).unwrap_or_default() {
                *of_column.entry(key).or_default() += 1;
            }
        }
    }
    let counts = counts
        .into_iter()
        .map(|counts| counts.into_iter().collect());
    Ok(Texts {
        rows: by_slice.values().sum(),
        whole: by_slice.values().all(|count| *count < u64::from(some.each)),
        counts: counts.collect(),
    })
}

/// As a whole, which is looked for otherwise.
fn is_ciphertext(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).ok();
    let decoded = text.and_then(|text| decode_base64(text).ok());
    Ciphertext::parse(decoded.as_deref().unwrap_or(value)).is_ok()
}
