//! What plans and checks look at alike: the tables of columns, what was said of them, who has which key.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rekey_domain::{BindType, ColumnName, Finding, KeyId, KeyName, OnUpdate, Triggers, undeclared};
use rekey_sources::{CensusColumn, CountedBy, Source, SourceError, TableShape};
use rekey_store::columns::Protected;
use tokio::time::Instant;

use crate::{Desired, OperationError, Services, TableConfig, keys, sources::effects::effects};

/// A protected table that was found at its source.
pub(crate) struct FoundTable {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) shape: TableShape,
}

/// Looks a table up; what is in the way becomes a finding, and others can be looked at.
pub(crate) async fn find_table(
    services: &Services,
    column: &Protected,
    findings: &mut Vec<Finding>,
) -> Result<Option<FoundTable>, OperationError> {
    let source = match services.source(&column.source).await {
        Ok(source) => source,
        Err(OperationError::Source(error)) => {
            note_error(findings, format!("source {}", column.source.name), &error);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let relation = &column.table.relation;
    match describe(&*source, relation).await {
        Ok(shape) => Ok(Some(FoundTable { source, shape })),
        Err(error) => {
            note_error(findings, table_subject(column), &error);
            Ok(None)
        }
    }
}

/// What another's lock is waited for, before it is said who holds it.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);

/// What a table is like; a lock of the application is waited for some seconds, and its holder named.
///
/// # Errors
/// [`SourceError`].
pub(crate) async fn describe(
    source: &dyn Source,
    relation: &str,
) -> Result<TableShape, SourceError> {
    patiently(source, relation, || source.describe(relation)).await
}

/// Asks a source about a table, again for some seconds while the application has it locked.
///
/// # Errors
/// Those of what is asked; [`SourceError::Busy`] with who holds the lock, if that can be found out.
pub(crate) async fn patiently<T, F>(
    source: &dyn Source,
    relation: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(SourceError::Busy { .. }) if Instant::now() < until => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(SourceError::Busy {
                database,
                waited_for,
                held_by: None,
            }) => {
                return Err(SourceError::Busy {
                    database,
                    waited_for,
                    held_by: source.holders(relation).await.unwrap_or_default(),
                });
            }
            asked => return asked,
        }
    }
}

/// What an error asks for: a lock is given back.
pub(crate) fn of_error(
    subject: impl Into<String>,
    error: &SourceError,
    problem: String,
) -> Finding {
    match error {
        SourceError::Busy { .. } => Finding::time(subject, problem),
        _ => Finding::person(subject, problem),
    }
}

/// An error of a source as a finding, once.
pub(crate) fn note_error(findings: &mut Vec<Finding>, subject: String, error: &SourceError) {
    let finding = of_error(subject, error, error.to_string());
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}

/// Whether another column has taken the place of the one that was protected: a rotation would not touch it, and what it
/// holds opens as nothing of ours. On SQLite, which numbers nothing for good, that is seen by its values.
pub(crate) async fn was_replaced(
    column: &Protected,
    found: &FoundTable,
    findings: &mut Vec<Finding>,
) -> bool {
    let name = &column.spec.name.column;
    let (is_numbered, now) = (found.shape.oid.is_some(), found.shape.identity(name));
    let known = column.identity.as_ref().filter(|_| is_numbered);
    let Some(before) = known.filter(|known| now.as_ref() != Some(*known)) else {
        return false;
    };
    let error = match found.source.column_of(before).await {
        Ok(elsewhere) => SourceError::Replaced {
            relation: column.table.relation.clone(),
            column: name.clone(),
            what: elsewhere.map_or_else(
                || "that was dropped".to_owned(),
                |(relation, called)| format!("that is {relation}.{called} now"),
            ),
        },
        Err(error) => error,
    };
    note_error(findings, column_subject(&column.spec.name), &error);
    true
}

/// Columns that the table does not have any more, or has as another type.
pub(crate) fn missing_columns(
    column: &Protected,
    shape: &TableShape,
    findings: &mut Vec<Finding>,
) -> bool {
    let subject = column_subject(&column.spec.name);
    let before = findings.len();
    let known = || {
        let names: Vec<_> = shape.columns.iter().map(|c| c.name.as_str()).collect();
        names.join(", ")
    };
    let name = &column.spec.name.column;
    match shape.column(name) {
        None => findings.push(Finding::person(
            &subject,
            format!(
                "{} has no such column; it has {}. If it was renamed: rekey columns rename {} {}.{}.NAME, which keeps what its values are bound to; if it was dropped: rekey columns release {} --gone",
                column.table.relation,
                known(),
                column.spec.name,
                column.source.name,
                column.table.name,
                column.spec.name,
            ),
        )),
        Some(found) if found.encoding != Some(column.spec.encoding) => {
            findings.push(Finding::person(
                &subject,
                format!(
                    "its type is {:?} now, which does not hold its ciphertext as it was protected; if its values were converted: rekey columns rename {} {}",
                    found.declared_type,
                    column.spec.name,
                    column.spec.name,
                ),
            ));
        }
        Some(_) => {}
    }
    let unbound = column.spec.bind_columns.iter();
    let unbound = unbound.filter(|bind| !shape.column(bind).is_some_and(|c| c.can_bind()));
    findings.extend(unbound.map(|bind| {
        Finding::person(
            &subject,
            format!(
                "its values are bound to {bind}, which cannot bind any more; {} has {}. {}",
                column.table.relation,
                known(),
                if_bind_was_renamed([&column.spec.name])
            ),
        )
    }));
    let is_broken = findings.len() > before;
    if let Some(noted) = &column.spec.bind_types {
        findings.extend(retyped(&subject, column, shape, noted));
    }
    is_broken
}

/// What helps where a column that others are bound to has another name now.
pub(crate) fn if_bind_was_renamed<'a>(columns: impl IntoIterator<Item = &'a ColumnName>) -> String {
    let renames = columns.into_iter();
    let renames = renames.map(|name| format!("rekey columns rename {name} {name}"));
    let renames: Vec<_> = renames.collect();
    format!(
        "If that was renamed: say its new name in rekey.toml where bind names it, then {} (the same name twice), and rekey apply",
        renames.join(", ")
    )
}

/// Bind columns whose type is another than what was noted: what people write would be read as that.
fn retyped(
    subject: &str,
    column: &Protected,
    shape: &TableShape,
    noted: &[BindType],
) -> Vec<Finding> {
    let binds = column.spec.bind_columns.iter().zip(noted);
    let changed = binds.filter(|(bind, before)| {
        let now = shape.column(bind).and_then(|found| found.bind_type);
        // Of a text that an older program noted nobody knows how long it was.
        let was_text = **before == BindType::Text;
        let is_text = |found| was_text && matches!(found, BindType::Varchar(_));
        now.is_some_and(|found| found != **before && !is_text(found))
    });
    changed
        .map(|(bind, before)| {
            Finding::person(
                subject,
                format!("its values are bound to {bind}, which held {before} and is of another type now: rekey apply notes it"),
            )
        })
        .collect()
}

/// The undeclared effects that our updates of a table would have.
pub(crate) fn undeclared_effects(
    desired: &Desired,
    column: &Protected,
    shape: &TableShape,
) -> Option<Finding> {
    let said = declared_on_update(desired, column);
    let problem = undeclared(said, effects(shape))?;
    Some(Finding::person(table_subject(column), problem))
}

/// Whether undeclared code of the owner would run with our rights when rows are read; then they are not read.
pub(crate) fn runs_undeclared_code(
    desired: &Desired,
    column: &Protected,
    shape: &TableShape,
) -> bool {
    !shape.own_code.is_empty()
        && declared_on_update(desired, column).triggers != Some(Triggers::Fire)
}

/// A table's declared effects: those in the configuration, or, if it does not name the table, those in the store.
pub(crate) fn declared_on_update(desired: &Desired, column: &Protected) -> OnUpdate {
    let declared = declared_table(desired, &column.source.name, &column.table.name);
    declared.map_or_else(|| column.table.on_update(), |table| table.on_update)
}

pub(crate) fn declared_table<'a>(
    desired: &'a Desired,
    source: &str,
    table: &str,
) -> Option<&'a TableConfig> {
    let source = desired.sources.iter().find(|one| one.name == source)?;
    source.tables.iter().find(|one| one.name == table)
}

/// Whether the configuration declares a column.
pub(crate) fn declares(desired: &Desired, name: &ColumnName) -> bool {
    let table = declared_table(desired, &name.source, &name.table);
    table.is_some_and(|table| {
        table
            .columns
            .iter()
            .any(|column| column.name == name.column)
    })
}

pub(crate) fn table_subject(column: &Protected) -> String {
    format!("table {}.{}", column.source.name, column.table.name)
}

pub(crate) fn column_subject(name: &ColumnName) -> String {
    format!("column {name}")
}

pub(crate) fn census_column(column: &Protected) -> CensusColumn {
    CensusColumn {
        name: column.spec.name.column.clone(),
        encoding: column.spec.encoding,
        by: CountedBy::Form,
    }
}

/// Every key of the deployment, by its id in ciphertext.
pub(crate) async fn key_names(
    services: &Services,
) -> Result<HashMap<KeyId, KeyName>, OperationError> {
    let views = keys::views::all(services).await?;
    Ok(views
        .into_iter()
        .map(|view| (view.key_id, view.key))
        .collect())
}
