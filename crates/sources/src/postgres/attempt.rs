//! One transaction over some rows: how it begins, what became of each row, and why it did not happen.

use std::collections::HashSet;

use rekey_domain::Triggers;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::{
    aftermath::Firing,
    faults::{self, Refusal},
    rights,
    swap::RowSwap,
    tuple::TupleId,
};
use crate::{SourceError, WriteOutcome, place::Place};

/// The rows that a statement wrote, and where they are now.
pub(super) type Written<'a> = Vec<(&'a RowSwap<'a>, TupleId)>;

/// What became of the rows of a transaction, by their indices.
pub(super) struct Tried {
    /// Those that nobody else had locked.
    pub(super) free: HashSet<usize>,
    pub(super) written: HashSet<usize>,
    pub(super) withheld: HashSet<usize>,
}

impl Tried {
    pub(super) fn all(free: &[&RowSwap<'_>], written: Written<'_>) -> Self {
        Self {
            free: free.iter().map(|row| row.index).collect(),
            written: written.iter().map(|(row, _)| row.index).collect(),
            withheld: HashSet::new(),
        }
    }

    pub(super) fn outcome(&self, row: &RowSwap<'_>) -> WriteOutcome {
        let is_in = |rows: &HashSet<usize>| rows.contains(&row.index);
        if is_in(&self.written) {
            WriteOutcome::Written
        } else if is_in(&self.withheld) {
            WriteOutcome::Withheld
        } else if is_in(&self.free) {
            WriteOutcome::Lost
        } else {
            WriteOutcome::Skipped
        }
    }
}

/// A transaction in which triggers are as the table's owner said.
pub(super) async fn begin<'a>(
    connection: &'a mut PgConnection,
    triggers: Triggers,
    table: &Place,
    place: &Place,
) -> Result<Transaction<'a, Postgres>, Failure> {
    let begun = connection.begin().await;
    let mut transaction = begun.map_err(|error| Failure::of(&error, table, place))?;
    if triggers == Triggers::Suppress {
        suppress_triggers(&mut transaction, table, place).await?;
    }
    Ok(transaction)
}

async fn suppress_triggers(
    transaction: &mut Transaction<'_, Postgres>,
    table: &Place,
    place: &Place,
) -> Result<(), Failure> {
    let set = sqlx::query("SET LOCAL session_replication_role = 'replica'");
    match set.execute(&mut **transaction).await {
        Ok(_) => Ok(()),
        Err(error) if faults::is_forbidden(&error) => {
            Err(Failure::Other(rights::may_not_suppress(place)))
        }
        Err(error) => Err(Failure::of(&error, table, place)),
    }
}

/// Why a transaction of ours did not happen.
pub(super) enum Failure {
    Locked,
    /// Nothing was written, as something came that may fire on it.
    Came,
    Refused(Refusal),
    Other(SourceError),
}

impl Failure {
    pub(super) fn of(error: &sqlx::Error, table: &Place, part: &Place) -> Self {
        if faults::is_locked(error) {
            return Self::Locked;
        }
        match faults::refusal(error) {
            Some(rule) => Self::Refused(rule),
            None => Self::Other(faults::of_part(error, table, part)),
        }
    }

    /// With what fires named, where that may be why.
    pub(super) fn by(self, firing: &Firing, part: &Place) -> Self {
        match self {
            Self::Other(SourceError::Database { reason, .. }) if !firing.names.is_empty() => {
                Self::Other(SourceError::FailsWith {
                    relation: part.relation.clone(),
                    by: firing.by(),
                    reason,
                    may_suppress: true,
                })
            }
            failure => failure,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Other(error)
    }
}
