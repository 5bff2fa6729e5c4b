//! A census: counts values by key id, column by column, table by table.

mod replaced;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rekey_domain::{ColumnName, Found, KeyId, PartId, Principal};
use rekey_sources::{Counted, PassToShow, SourceError, Standing, ValueId};
use rekey_store::columns::{self, Protected};
use uuid::Uuid;

pub(crate) use self::replaced::look as look_for_replaced;
use crate::{
    Action, OperationError, Services, authorise,
    sources::{by_table::tables, look::census_column},
};

/// How many values of a column stand under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusRow {
    /// The column.
    pub column: ColumnName,
    /// The column's id in the store.
    pub column_id: Uuid,
    /// What the values are.
    pub found: Found,
    /// How many.
    pub rows: u64,
    /// How many of them are values that the pass had left; none if the census shows nothing of a pass.
    pub left: u64,
    /// Values of the column that the pass did not meet and that are still somewhere, not counting where the pass opened
    /// them: each one's start, and how often it is there.
    pub standing: Arc<Vec<(String, u64)>>,
    /// Values that the pass left of the column and that are no longer there; empty if not all were looked at.
    pub gone: Arc<Vec<String>>,
    /// The store's time when the table began to be counted: not before the moment that is shown.
    pub taken_at: DateTime<Utc>,
}

/// What a census has to show of a pass over the rows.
#[derive(Debug, Default)]
pub struct PassToProve {
    /// The key ids at or above the target.
    pub settled: Vec<KeyId>,
    /// What the pass left of each column, by the column's id in the store.
    pub left: HashMap<Uuid, HashSet<ValueId>>,
    /// The parts of each table that the pass read from end to end, by the table's id in the store.
    pub parts: HashMap<Uuid, Vec<PartId>>,
    /// Values in quarantine that the pass did not meet, by the column's id in the store: their starts.
    pub not_met: HashMap<Uuid, HashSet<String>>,
    /// Where the pass opened some of those, by the column's id in the store.
    pub opened: HashMap<Uuid, HashSet<ValueId>>,
    /// The mark of each source, by its id in the store.
    pub fences: HashMap<Uuid, String>,
}

/// The census of one table, for people.
#[derive(Debug)]
pub struct TableCensus {
    /// Its protected columns.
    pub columns: Vec<ColumnName>,
    /// What they hold; a column without values has no row.
    pub counted: Result<Vec<CensusRow>, OperationError>,
}

/// Counts every protected column, table by table: one that cannot be counted hides no other.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn census_by_table(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<TableCensus>, OperationError> {
    authorise(principal, Action::TakeCensus)?;
    let columns = columns::all(services.store.db()).await?;
    let mut censuses = Vec::new();
    for table in tables(&columns) {
        let counted = count_table(services, &table, None).await;
        if table.len() > 1 && counted.as_ref().is_err_and(is_of_a_column) {
            for column in table {
                let alone = count_table(services, &[column], None).await;
                censuses.push(TableCensus::of(&[column], alone));
            }
            continue;
        }
        censuses.push(TableCensus::of(&table, counted));
    }
    Ok(censuses)
}

impl TableCensus {
    fn of(columns: &[&Protected], counted: Result<Vec<CensusRow>, OperationError>) -> Self {
        let names = columns.iter().map(|column| column.spec.name.clone());
        Self {
            columns: names.collect(),
            counted,
        }
    }
}

/// Whether another column of the table may be counted all the same.
fn is_of_a_column(error: &OperationError) -> bool {
    use SourceError::{CannotBind, NoSuchColumn, OtherType, Replaced};
    let OperationError::Source(error) = error else {
        return false;
    };
    matches!(
        error,
        CannotBind { .. } | NoSuchColumn { .. } | OtherType { .. } | Replaced { .. }
    )
}

/// Counts every protected column.
///
/// # Errors
/// [`OperationError::Source`] when a source is not reached: half a census is none.
pub async fn census(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<CensusRow>, OperationError> {
    authorise(principal, Action::TakeCensus)?;
    let columns = columns::all(services.store.db()).await?;
    census_of_columns(services, &columns, None).await
}

/// Counts these columns.
///
/// # Errors
/// As [`census`].
pub async fn census_of_columns(
    services: &Services,
    columns: &[Protected],
    pass: Option<&PassToProve>,
) -> Result<Vec<CensusRow>, OperationError> {
    let mut rows = Vec::new();
    for table in tables(columns) {
        rows.extend(count_table(services, &table, pass).await?);
    }
    Ok(rows)
}

/// All columns of a table at once: a census is of one moment.
async fn count_table(
    services: &Services,
    columns: &[&Protected],
    pass: Option<&PassToProve>,
) -> Result<Vec<CensusRow>, OperationError> {
    let wanted: Vec<_> = columns.iter().map(|column| census_column(column)).collect();
    let nothing = PassToProve::default();
    let mut to_show = pass.unwrap_or(&nothing).of(columns);
    let source = services.source(&columns[0].source).await?;
    let taken_at = services.store.now().await?;
    let counted =
        replaced::counted_as_known(services, columns, &*source, &wanted, &mut to_show).await?;
    let mut rows = Vec::new();
    for (at, (column, counts)) in columns.iter().zip(counted).enumerate() {
        let standing = standing(&to_show, pass, at, column);
        let gone = gone(&to_show, at, &counts);
        rows.extend(counts.into_iter().map(|count| CensusRow {
            column: column.spec.name.clone(),
            column_id: column.id,
            found: count.found,
            rows: count.values,
            left: count.left,
            standing: standing.clone(),
            gone: gone.clone(),
            taken_at,
        }));
    }
    Ok(rows)
}

/// Which of a column's wanted values were seen, and how often.
fn standing(
    shown: &PassToShow,
    pass: Option<&PassToProve>,
    at: usize,
    column: &Protected,
) -> Arc<Vec<(String, u64)>> {
    let wanted = pass.and_then(|pass| pass.not_met.get(&column.id));
    let (Some(wanted), Some(standing)) = (wanted, &shown.standing) else {
        return Arc::default();
    };
    let times = wanted
        .iter()
        .map(|start| (start.clone(), standing.times(at, start)));
    Arc::new(times.filter(|(_, times)| *times > 0).collect())
}

/// The values that are no longer where the pass left them. The pass may have left a moving row at two places, and the
/// row is at one.
fn gone(shown: &PassToShow, at: usize, counts: &[Counted]) -> Arc<Vec<String>> {
    let Some(standing) = &shown.standing else {
        return Arc::default();
    };
    let is_settled = |found: Found| found.is_settled(|key| shown.settled.contains(&key));
    let below = counts.iter().filter(|counted| !is_settled(counted.found));
    let below: u64 = below.map(|counted| counted.values).sum();
    let seen = standing.left(at);
    // Looking ends at the first value that the pass had not left.
    if seen.len() as u64 != below {
        return Arc::default();
    }
    let gone = shown.left[at].difference(&seen);
    Arc::new(gone.map(|id| id.as_str().to_owned()).collect())
}

impl PassToProve {
    fn of(&self, columns: &[&Protected]) -> PassToShow {
        PassToShow {
            settled: self.settled.clone(),
            left: of_each(&self.left, columns),
            standing: Some(Arc::new(Standing::new(
                of_each(&self.not_met, columns),
                of_each(&self.opened, columns),
            ))),
            parts: self.parts.get(&columns[0].table.id).cloned(),
            trusts_code: columns[0].table.trusts_code(),
            fence: self.fences.get(&columns[0].source.id).cloned(),
            known: columns
                .iter()
                .map(|column| column.identity.clone())
                .collect(),
        }
    }
}

/// What is known of each column; of some nothing.
fn of_each<T: Clone + Default>(all: &HashMap<Uuid, T>, columns: &[&Protected]) -> Vec<T> {
    let of = |column: &&Protected| all.get(&column.id).cloned().unwrap_or_default();
    columns.iter().map(of).collect()
}
