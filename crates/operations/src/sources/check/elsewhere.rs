//! Ciphertext of ours in columns that are not protected: some rows of every other column are looked at.

use std::{collections::BTreeMap, sync::Arc};

use rekey_domain::{Finding, Found, TextEncoding};
use rekey_sources::{CandidateTable, CensusColumn, Source, SourceError, TableShape};
use rekey_store::columns::Protected;
use uuid::Uuid;

use super::{Look, SAMPLED_ROWS, of_rows};
use crate::{
    OperationError, STORE_SOURCE,
    sources::look::{note_error, patiently},
};

/// Tables named in one finding.
const NAMED: usize = 10;

impl Look<'_> {
    /// Every other column of the sources; gives how many tables were looked at.
    pub(super) async fn elsewhere(&mut self, columns: &[Protected]) -> Result<u64, OperationError> {
        let mut sources: Vec<&Protected> = Vec::new();
        for column in columns {
            let known = sources.iter().any(|one| one.source.id == column.source.id);
            if !known && column.source.name != STORE_SOURCE {
                sources.push(column);
            }
        }
        let mut tables = 0;
        for column in sources {
            // A source that is away was found to be so by its own tables.
            let Ok(source) = self.services.source(&column.source).await else {
                continue;
            };
            let of_source = columns.iter();
            let of_source = of_source.filter(|one| one.source.id == column.source.id);
            tables += self
                .source(&column.source.name, source, of_source.collect())
                .await;
        }
        Ok(tables)
    }

    async fn source(
        &mut self,
        name: &str,
        source: Arc<dyn Source>,
        columns: Vec<&Protected>,
    ) -> u64 {
        let candidates = match source.candidates().await {
            Ok(candidates) => candidates,
            Err(error) => {
                note_error(&mut self.findings, format!("source {name}"), &error);
                return 0;
            }
        };
        let protected = protected(&*source, &columns).await;
        let (mut looked, mut unreadable) = (0, Vec::new());
        for mut table in candidates {
            table
                .columns
                .retain(|column| !protected.covers(&table.full_name, &column.name));
            table
                .unreadable
                .retain(|column| !protected.covers(&table.full_name, column));
            if !table.unreadable.is_empty() {
                unreadable.push(format!(
                    "{} ({})",
                    table.relation,
                    table.unreadable.join(", ")
                ));
            }
            if table.columns.is_empty() {
                continue;
            }
            let relation = &table.relation;
            let sample = || source.sample(relation, &table.columns, SAMPLED_ROWS);
            match patiently(&*source, relation, sample).await {
                Ok(sample) => {
                    looked += 1;
                    let how = of_rows(sample.rows, sample.whole);
                    self.astray(name, &table, &sample.counts, &how);
                }
                Err(error @ SourceError::NotAllowed { .. }) => {
                    unreadable.push(format!("{relation}: {error}"));
                }
                Err(error) => self.findings.push(failed(name, relation, &error)),
            }
        }
        self.findings.extend(not_looked_at(name, &unreadable));
        self.in_texts(name, &*source, &protected).await;
        looked
    }

    /// Ciphertext of ours in columns that are not protected.
    fn astray(
        &mut self,
        source: &str,
        table: &CandidateTable,
        counted: &[Vec<(Found, u64)>],
        how: &str,
    ) {
        for (column, counts) in table.columns.iter().zip(counted) {
            let mut keys: BTreeMap<String, u64> = BTreeMap::new();
            for (found, values) in counts {
                let Found::Key(id) = found else { continue };
                let Some(key) = self.keys.get(id) else {
                    continue;
                };
                *keys.entry(key.to_string()).or_default() += values;
            }
            if !keys.is_empty() {
                self.findings
                    .push(undeclared(source, table, column, &keys, how));
            }
        }
    }
}

/// A table in which nothing can be said of any column.
fn failed(source: &str, relation: &str, error: &SourceError) -> Finding {
    let subject = format!("table {relation} in source {source}");
    let problem = format!("could not be looked at for ciphertext: {error}");
    match error {
        SourceError::Busy { .. } => Finding::time(subject, problem),
        _ => Finding::note(subject, problem),
    }
}

fn undeclared(
    source: &str,
    table: &CandidateTable,
    column: &CensusColumn,
    keys: &BTreeMap<String, u64>,
    how: &str,
) -> Finding {
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, values)| format!("{values} under {key}"))
        .collect();
    let form = match column.encoding {
        TextEncoding::Binary => "as bytes",
        TextEncoding::Base64 => "as base64",
    };
    let problem = format!(
        "holds ciphertext of ours {form} and is not protected: {}; {how}. No rotation moves it, and it is lost when its key is destroyed. Declare it, or remove it",
        keys.join(", ")
    );
    let subject = format!(
        "column {} of {} in source {source}",
        column.name, table.relation
    );
    Finding::person(subject, problem)
}

fn not_looked_at(source: &str, tables: &[String]) -> Option<Finding> {
    let more = tables.len().saturating_sub(NAMED);
    let mut named = tables[..tables.len().min(NAMED)].join("; ");
    if more > 0 {
        named = format!("{named}; and {more} more");
    }
    let problem = format!(
        "{} table(s) could not be looked at for ciphertext, or not every column: {named}. Look as a role that may read them, such as their owner",
        tables.len()
    );
    (!tables.is_empty()).then(|| Finding::note(format!("source {source}"), problem))
}

/// The protected columns of a source, as its catalogue names them.
pub(crate) struct ProtectedColumns {
    columns: Vec<(String, String)>,
    /// Those that are where they are said to be, by their ids in the store.
    found: Vec<Uuid>,
    /// Whether names in either case are one.
    any_case: bool,
}

pub(crate) async fn protected(source: &dyn Source, columns: &[&Protected]) -> ProtectedColumns {
    let mut found = ProtectedColumns {
        columns: Vec::new(),
        found: Vec::new(),
        any_case: columns
            .iter()
            .any(|column| column.source.url.starts_with("sqlite")),
    };
    for column in columns {
        // A table that is not there covers nothing.
        let Ok(shape) = source.describe(&column.table.relation).await else {
            continue;
        };
        if found.add(&shape, &column.spec.name.column) {
            found.found.push(column.id);
        }
    }
    found
}

impl ProtectedColumns {
    pub(crate) fn covers(&self, table: &str, column: &str) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|(of, name)| self.is_one_name(of, table) && self.is_one_name(name, column))
    }

    /// Whether the protected column of this id is where it is said to be.
    pub(crate) fn found(&self, id: Uuid) -> bool {
        self.found.contains(&id)
    }

    /// Takes a column for protected, too, if the table has it.
    pub(crate) fn add(&mut self, shape: &TableShape, column: &str) -> bool {
        let named = shape.column(column);
        let known = named.map(|named| (shape.full_name.clone(), named.name.clone()));
        self.columns.extend(known);
        named.is_some()
    }

    /// Whether the database takes both for one name.
    pub(crate) fn is_one_name(&self, one: &str, other: &str) -> bool {
        one == other || self.any_case && one.eq_ignore_ascii_case(other)
    }
}
