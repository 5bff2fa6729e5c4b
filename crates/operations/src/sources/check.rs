//! Whether protected columns are as they were declared, and whether ciphertext stands where none is. Reads only.

mod elsewhere;
mod texts;

pub(crate) use self::elsewhere::{ProtectedColumns, protected};

use std::collections::HashMap;

use rekey_domain::{
    Bind, ColumnName, ColumnSpec, Finding, KeyId, KeyName, KeyringName, Principal,
    QuarantineReason, TextEncoding, Triggers, strange_values,
};
use rekey_sources::{Measure, Source, TableRights};
use rekey_store::columns::{self, Protected};
use serde::Serialize;

use crate::{
    Action, Desired, OperationError, Services, authorise,
    rotations::too_new::{standby_keys, too_new_values},
    sources::{
        by_table::tables,
        counting::{counted, values},
        look::{
            self, census_column, column_subject, declares, find_table, key_names, missing_columns,
            note_error, runs_undeclared_code, table_subject, undeclared_effects, was_replaced,
        },
        opening::{Opening, ToOpen, open_values},
    },
};

/// Rows of a table that are looked at where nothing is counted.
const SAMPLED_ROWS: u32 = 1_000;
/// A protected column as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnView {
    /// Its name.
    pub column: ColumnName,
    /// Its table in its database.
    pub relation: String,
    /// The keyring that encrypts it.
    pub keyring: KeyringName,
    /// What its values are bound to.
    pub bind: Bind,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// The string that stands first in associated data.
    pub column_id: String,
    /// Whether the configuration declares it; it is protected in any case.
    pub declared: bool,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnsCheck {
    /// The columns that were checked.
    pub columns: Vec<ColumnView>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Of each column, values that were opened as a rotation would.
    pub opened: Vec<ColumnOpening>,
    /// How many of the columns could be looked at for what stands in them.
    pub looked_at: usize,
    /// Values that were looked at: `sample`, or `counted`.
    pub values: &'static str,
    /// Tables that were looked at for ciphertext in columns that are not protected.
    pub other_tables: u64,
}

/// What opening values of a column came to.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnOpening {
    /// The column.
    pub column: ColumnName,
    /// How many open.
    #[serde(flatten)]
    pub opening: Opening,
}

/// Every protected column.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn column_views(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<ColumnView>, OperationError> {
    authorise(principal, Action::ReadColumns)?;
    let columns = by_name(services).await?;
    Ok(columns.iter().map(|column| view(desired, column)).collect())
}

/// One protected column.
///
/// # Errors
/// [`OperationError::Store`] lists those there are.
pub async fn protected_column(
    services: &Services,
    name: &ColumnName,
    principal: &Principal,
) -> Result<ColumnSpec, OperationError> {
    authorise(principal, Action::ReadColumns)?;
    let column = columns::by_name(services.store.db(), &name.to_string()).await?;
    Ok(column.spec)
}

async fn by_name(services: &Services) -> Result<Vec<Protected>, OperationError> {
    let mut columns = columns::all(services.store.db()).await?;
    columns.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    Ok(columns)
}

fn view(desired: &Desired, column: &Protected) -> ColumnView {
    let spec = &column.spec;
    ColumnView {
        column: spec.name.clone(),
        relation: column.table.relation.clone(),
        keyring: spec.keyring.clone(),
        bind: spec.bind.clone(),
        encoding: spec.encoding,
        column_id: spec.column_id.clone(),
        declared: declares(desired, &spec.name),
    }
}

/// Checks the protected columns of these names; where none is named all of them, and every other
/// column of their sources for ciphertext of ours.
///
/// # Errors
/// [`OperationError::Store`] for a column that is not protected; a source that cannot be looked at is
/// a finding.
pub async fn check_columns(
    services: &Services,
    desired: &Desired,
    names: &[ColumnName],
    how: Measure,
    principal: &Principal,
) -> Result<ColumnsCheck, OperationError> {
    authorise(principal, Action::CheckColumns)?;
    let db = services.store.db();
    for name in names {
        columns::by_name(db, &name.to_string()).await?;
    }
    let all = by_name(services).await?;
    let is_asked = |column: &&Protected| names.is_empty() || names.contains(&column.spec.name);
    let columns: Vec<_> = all.iter().filter(is_asked).cloned().collect();
    let mut look = Look {
        services,
        desired,
        keys: key_names(services).await?,
        how,
        looked_at: 0,
        opened: Vec::new(),
        findings: Vec::new(),
    };
    for table in tables(&columns) {
        look.table(&table).await?;
    }
    let mut other_tables = 0;
    if names.is_empty() {
        look.declarations(&all);
        other_tables = look.elsewhere(&all).await?;
    }
    look.findings.sort_by_key(|finding| finding.need);
    Ok(ColumnsCheck {
        columns: columns.iter().map(|column| view(desired, column)).collect(),
        looked_at: look.looked_at,
        opened: look.opened,
        findings: look.findings,
        values: match how {
            Measure::Estimate => "sample",
            Measure::Count => "counted",
        },
        other_tables,
    })
}

struct Look<'a> {
    services: &'a Services,
    desired: &'a Desired,
    keys: HashMap<KeyId, KeyName>,
    how: Measure,
    looked_at: usize,
    opened: Vec<ColumnOpening>,
    findings: Vec<Finding>,
}

impl Look<'_> {
    /// One table with protected columns.
    async fn table(&mut self, columns: &[&Protected]) -> Result<(), OperationError> {
        let first = columns[0];
        let Some(found) = find_table(self.services, first, &mut self.findings).await? else {
            return Ok(());
        };
        let undeclared = undeclared_effects(self.desired, first, &found.shape);
        self.findings.extend(undeclared);
        let mut present = Vec::new();
        for column in columns {
            let is_there = !missing_columns(column, &found.shape, &mut self.findings);
            if is_there && !was_replaced(column, &found, &mut self.findings).await {
                present.push(*column);
            }
        }
        if present.is_empty() || runs_undeclared_code(self.desired, first, &found.shape) {
            return Ok(());
        }
        if self.lacks_rights(&present, &found).await {
            return Ok(());
        }
        self.values(&present, &*found.source).await?;
        self.open(&present, &*found.source).await;
        Ok(())
    }

    /// Whether our role may not look. What a worker's role may not do is reported by that worker's readiness.
    async fn lacks_rights(&mut self, columns: &[&Protected], found: &look::FoundTable) -> bool {
        let read = columns.iter().map(|column| column.spec.name.column.clone());
        let needed = TableRights {
            relation: columns[0].table.relation.clone(),
            read: read.collect(),
            written: Vec::new(),
            triggers: Triggers::Fire,
        };
        let (source, relation) = (&*found.source, &needed.relation);
        match look::patiently(source, relation, || source.check_rights(&needed)).await {
            Ok(()) => false,
            Err(error) => {
                note_error(&mut self.findings, table_subject(columns[0]), &error);
                true
            }
        }
    }

    /// What stands in the columns.
    async fn values(
        &mut self,
        columns: &[&Protected],
        source: &dyn Source,
    ) -> Result<(), OperationError> {
        let wanted: Vec<_> = columns.iter().map(|column| census_column(column)).collect();
        let relation = &columns[0].table.relation;
        let looked = match self.how {
            Measure::Count => {
                let counted = || counted(source, relation, &wanted, None);
                let counted = look::patiently(source, relation, counted).await;
                counted.map(|counts| (values(&counts), "all were counted".to_owned()))
            }
            Measure::Estimate => {
                let sample = || source.sample(relation, &wanted, SAMPLED_ROWS);
                let sample = look::patiently(source, relation, sample).await;
                sample.map(|sample| (sample.counts, of_rows(sample.rows, sample.whole)))
            }
        };
        match looked {
            Ok((all, how)) => {
                self.looked_at += columns.len();
                let standbys = standby_keys(self.services).await?;
                for (column, counts) in columns.iter().zip(all) {
                    let spec = &column.spec;
                    let (subject, keyring) = (column_subject(&spec.name), spec.keyring.as_str());
                    let strange = strange_values(&subject, &counts, keyring, &self.keys, &how);
                    self.findings.extend(strange);
                    self.findings
                        .extend(too_new_values(&subject, counts, &standbys));
                }
            }
            Err(error) => note_error(&mut self.findings, table_subject(columns[0]), &error),
        }
        Ok(())
    }

    /// Whether values open. What is no ciphertext, or under a key that is not theirs, is said of more values.
    async fn open(&mut self, columns: &[&Protected], source: &dyn Source) {
        let to_open: Vec<_> = columns.iter().map(|column| ToOpen::from(*column)).collect();
        let relation = &columns[0].table.relation;
        let opened = open_values(self.services, source, relation, &to_open, self.how).await;
        let reasons = [
            QuarantineReason::Unopened,
            QuarantineReason::WrongContext,
            QuarantineReason::Unbound,
            QuarantineReason::WrittenAfterCompromise,
        ];
        self.findings.extend(opened.findings(columns, &reasons));
        let columns = columns.iter().zip(opened.columns);
        self.opened
            .extend(columns.map(|(column, opening)| ColumnOpening {
                column: column.spec.name.clone(),
                opening,
            }));
    }

    /// What the configuration declares and the store has not, and the other way round.
    fn declarations(&mut self, columns: &[Protected]) {
        for source in &self.desired.sources {
            for table in &source.tables {
                for column in &table.columns {
                    let name = ColumnName {
                        source: source.name.clone(),
                        table: table.name.clone(),
                        column: column.name.clone(),
                    };
                    if !columns.iter().any(|known| known.spec.name == name) {
                        let problem = "declared and not protected yet: rekey apply";
                        let finding = Finding::person(column_subject(&name), problem);
                        self.findings.push(finding);
                    }
                }
            }
        }
        let undeclared = columns.iter().map(|column| &column.spec.name);
        for name in undeclared.filter(|name| !declares(self.desired, name)) {
            let problem = format!(
                "the configuration does not declare it; it stays protected until rekey columns release {name}"
            );
            self.findings
                .push(Finding::note(column_subject(name), problem));
        }
    }
}

pub(crate) fn of_rows(rows: u64, whole: bool) -> String {
    if whole {
        return format!("all of {rows} row(s) were looked at");
    }
    format!("{rows} rows from all over the table were looked at")
}
