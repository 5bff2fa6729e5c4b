//! Ciphertext of ours among other text: in JSON, in arrays, in hex. What was not looked at is named.

use std::collections::BTreeMap;

use rekey_domain::Finding;
use rekey_sources::{Source, SourceError, Spelling, TextForm, TextTable, Texts};

use super::{Look, SAMPLED_ROWS, elsewhere::ProtectedColumns, of_rows};
use crate::sources::look::{note_error, patiently};

/// Columns named in one finding.
const NAMED: usize = 20;

impl Look<'_> {
    /// Looks at every other column of a source whose text could contain ciphertext.
    pub(super) async fn in_texts(
        &mut self,
        source_name: &str,
        source: &dyn Source,
        protected: &ProtectedColumns,
    ) {
        let tables = match source.text_tables().await {
            Ok(tables) => tables,
            Err(error) => {
                note_error(&mut self.findings, format!("source {source_name}"), &error);
                return;
            }
        };
        let mut not_looked_at = Vec::new();
        for mut table in tables {
            let covers = |name: &str| protected.covers(&table.full_name, name);
            let mut columns = std::mem::take(&mut table.columns);
            columns.retain(|column| !covers(&column.name));
            let left_out = table.not_looked_at.iter();
            not_looked_at.extend(left_out.filter(|one| !covers(&one.column)).map(|one| {
                let (column, of, why) = (&one.column, &one.declared_type, &one.why);
                format!("{column} of {} ({of}): {why}", table.relation)
            }));
            table.columns = columns;
            if table.columns.is_empty() {
                continue;
            }
            let relation = &table.relation;
            let sample = || source.sample_texts(relation, &table.columns, SAMPLED_ROWS);
            match patiently(source, relation, sample).await {
                Ok(texts) => self.astray_in_text(source_name, &table, &texts),
                Err(error) => {
                    // Of the others this was said before.
                    let others = table.columns.iter();
                    let others = others.filter(|one| one.form == TextForm::Output);
                    let names: Vec<_> = others.map(|one| one.name.as_str()).collect();
                    if names.is_empty() {
                        continue;
                    }
                    let failed = failed(source_name, relation, &names.join(", "), &error);
                    self.findings.push(failed);
                }
            }
        }
        self.findings.extend(left_out(source_name, &not_looked_at));
    }

    fn astray_in_text(&mut self, source: &str, table: &TextTable, texts: &Texts) {
        let how = of_rows(texts.rows, texts.whole);
        for (column, counts) in table.columns.iter().zip(&texts.counts) {
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            for ((spelling, id), rows) in counts {
                let Some(key) = self.keys.get(id) else {
                    continue;
                };
                let spelled = match spelling {
                    Spelling::Base64 => "base64",
                    Spelling::Hex => "hex",
                };
                *found
                    .entry(format!("under {key} in {spelled}"))
                    .or_default() += rows;
            }
            if found.is_empty() {
                continue;
            }
            let found: Vec<_> = found
                .iter()
                .map(|(of, rows)| format!("{rows} {of}"))
                .collect();
            let problem = format!(
                "holds ciphertext of ours within its text, which no rotation moves: {}; {how}. It is lost when its key is destroyed. Keep it in a column of its own, as bytes or base64, and declare that, or remove it",
                found.join(", ")
            );
            let subject = format!(
                "column {} of {} in source {source}",
                column.name, table.relation
            );
            self.findings.push(Finding::person(subject, problem));
        }
    }
}

fn failed(source: &str, relation: &str, columns: &str, error: &SourceError) -> Finding {
    let subject = format!("table {relation} in source {source}");
    let problem = format!(
        "could hold ciphertext in its text ({columns}), which could not be looked at: {error}"
    );
    match error {
        SourceError::Busy { .. } => Finding::time(subject, problem),
        _ => Finding::note(subject, problem),
    }
}

fn left_out(source: &str, columns: &[String]) -> Option<Finding> {
    let more = columns.len().saturating_sub(NAMED);
    let mut named = columns[..columns.len().min(NAMED)].join("; ");
    if more > 0 {
        named = format!("{named}; and {more} more");
    }
    let problem = format!(
        "{} column(s) could hold ciphertext in their text and were not looked at: {named}",
        columns.len()
    );
    (!columns.is_empty()).then(|| Finding::note(format!("source {source}"), problem))
}
