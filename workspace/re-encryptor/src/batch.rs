//! One range of one table: read, re-encrypt, write, until reading again finds nothing left to move.

use std::{collections::BTreeMap, time::Duration};

use rekey_domain::{Triggers, WRITE_WITHIN};
use rekey_operations::OperationError;
use rekey_runtime::crash;
use rekey_sources::{SourceError, SourceRow, ValueId, WriteOutcome};
use rekey_store::progress::Tally;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

use crate::{
    account::{Account, Counted},
    row::{self, Moved, Unmoved},
    work::Work,
};

/// Bytes of values that a batch holds at once; a page's last row may go beyond. While a value is worked on, there are
/// up to six copies of it.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// A page of more bytes has a row that is wide by itself: such pages are worked on one at a time.
const WIDE_BYTES: usize = 2 * PAGE_BYTES;
/// Times a range is read again because the application won a race; then the attempt counts as failed.
const ROUNDS: u32 = 20;

/// The pauses before a range is read again because the application locks rows in it. After the last pause the batch
/// makes room for others.
const PAUSES_MS: [u64; 6] = [50, 100, 200, 400, 800, 1_600];

/// What became of a batch.
#[derive(Default)]
pub struct Outcome {
    /// Its part is not what it was: nothing is proved of its range.
    pub void: bool,
    /// Counts.
    pub tally: Tally,
    /// What could not be moved.
    pub quarantine: Vec<Unmoved>,
    /// What was in quarantine and opens where it stands.
    pub reopened: Vec<(Uuid, ValueId)>,
    /// How many values of each protected column it read, those in quarantine among them.
    pub met: BTreeMap<Uuid, u64>,
}

/// What reading a range once came to.
#[derive(Default)]
struct Round {
    /// Whether something was written or lost, so that reading again finds something else.
    changed: bool,
    skipped: u64,
    opened: u64,
    reopened: Vec<(Uuid, ValueId)>,
    quarantine: Vec<Unmoved>,
}

impl Round {
    fn see(&mut self, written: &[WriteOutcome]) {
        for outcome in written {
            self.skipped += u64::from(*outcome == WriteOutcome::Skipped);
            self.changed |= matches!(outcome, WriteOutcome::Written | WriteOutcome::Lost);
        }
    }
}

/// Moves all values of the batch's range to the target.
///
/// If the attempt fails, `account` still has what it moved.
pub async fn re_encrypt(
    mut work: Work<'_>,
    account: &mut Account<'_>,
) -> Result<Outcome, OperationError> {
    match work.rounds(account).await {
        Ok(last) => {
            crash::point("re-encryptor.verified");
            Ok(Outcome {
                void: false,
                tally: Tally {
                    quarantined: last.quarantine.len() as u64,
                    opened: last.opened,
                    ..account.tally
                },
                quarantine: last.quarantine,
                reopened: last.reopened,
                met: work.met,
            })
        }
        Err(OperationError::Source(SourceError::PartChanged { .. })) => Ok(Outcome {
            void: true,
            tally: account.tally,
            ..Outcome::default()
        }),
        Err(error) => Err(error),
    }
}

impl<'a> Work<'a> {
    /// Reads the range and moves what it can, until reading finds nothing that can be moved; gives
    /// what that last reading came to.
    async fn rounds(&mut self, account: &mut Account<'_>) -> Result<Round, OperationError> {
        self.settle(account).await?;
        let mut pauses = PAUSES_MS.into_iter().map(Duration::from_millis);
        for attempt in 0..ROUNDS {
            let round = self.round(attempt == 0, account).await?;
            if round.skipped > 0 {
                let Some(pause) = pauses.next() else {
                    return Err(self.locked().await);
                };
                tokio::time::sleep(pause).await;
            } else if !round.changed {
                // Rows that an attempt before this one wrote may be in memory only.
                self.source.flush().await?;
                return Ok(round);
            }
        }
        let what = format!("rows of {} in {}", self.query.part, self.query.range);
        Err(rekey_store::StoreError::Stale { what }.into())
    }

    /// Finds out what a killed attempt wrote: whatever is still to be moved was not written.
    async fn settle(&self, account: &mut Account<'_>) -> Result<(), OperationError> {
        let Some(doubt) = account.in_doubt() else {
            return Ok(());
        };
        let (mut left, mut after) = (Counted::default(), None);
        loop {
            let page = self.source.read(&self.query, after, PAGE_BYTES).await?;
            // What stays as it is before them is none of theirs.
            let rows = &page.rows;
            let first = rows.partition_point(|row| doubt.is_behind(row.key.place()));
            let behind = rows.partition_point(|row| !doubt.is_before(row.key.place()));
            left += row::to_move(self, &rows[first.min(behind)..behind]);
            after = page.next;
            if after.is_none() || behind < page.rows.len() {
                break;
            }
        }
        account.settle(left);
        Ok(account.tell().await?)
    }

    /// The error for rows that the application holds. It names the holders if they can be found out.
    async fn locked(&self) -> OperationError {
        let holders = self.source.holders(&self.query.relation).await;
        OperationError::Source(SourceError::Busy {
            database: self.columns[0].source.name.clone(),
            waited_for: format!("a row of {}", self.columns[0].table.name),
            held_by: holders.unwrap_or_default(),
        })
    }

    /// Reads the range once, page by page, and moves what it can.
    async fn round(
        &mut self,
        first: bool,
        account: &mut Account<'_>,
    ) -> Result<Round, OperationError> {
        let mut outcome = Round::default();
        let (mut after, mut is_wide) = (None, false);
        loop {
            // Where one page was wide, the next will be.
            let mut turn = self.turn(is_wide).await;
            let page = self.source.read(&self.query, after, PAGE_BYTES).await?;
            crash::point("re-encryptor.read");
            after = page.next;
            is_wide = page.rows.iter().map(SourceRow::size).sum::<usize>() > WIDE_BYTES;
            if turn.is_none() {
                turn = self.turn(is_wide).await;
            }
            if first {
                self.meet(&page.rows);
            }
            self.move_page(page.rows, &mut outcome, account).await?;
            drop(turn);
            if after.is_none() {
                return Ok(outcome);
            }
        }
    }

    fn meet(&mut self, rows: &[SourceRow]) {
        for (column, values) in self.met_in(rows) {
            *self.met.entry(column).or_default() += values;
        }
    }

    /// Waits for the right to work on wide rows, if that is what comes.
    async fn turn(&self, is_wide: bool) -> Option<SemaphorePermit<'a>> {
        if !is_wide {
            return None;
        }
        let turn = self.wide.acquire().await;
        Some(turn.expect("nobody closes it"))
    }

    async fn move_page(
        &mut self,
        rows: Vec<SourceRow>,
        outcome: &mut Round,
        account: &mut Account<'_>,
    ) -> Result<(), OperationError> {
        let Some((first, last)) = rows.first().zip(rows.last()) else {
            return Ok(());
        };
        let places = (first.key.place(), last.key.place());
        let deadline = self.source.deadline(WRITE_WITHIN).await?;
        let mut moved = row::re_encrypt(self, rows).await?;
        outcome.quarantine.append(&mut moved.quarantine);
        outcome.opened += moved.opened;
        outcome.reopened.append(&mut moved.reopened);
        if moved.updates.is_empty() {
            return Ok(());
        }
        account.begin_page(moved.to_move, places).await?;
        crash::point("re-encryptor.encrypted");
        let mut written = vec![WriteOutcome::Skipped; moved.updates.len()];
        let done = self
            .source
            .write_into(&self.target_part, &moved.updates, deadline, &mut written)
            .await;
        crash::point("re-encryptor.written");
        account.end_page(&moved.updates, &written, done.is_ok());
        outcome.see(&written);
        done?;
        if written.contains(&WriteOutcome::Withheld) {
            self.quarantine_withheld(&moved, &written, outcome).await?;
        }
        Ok(())
    }

    /// Lists values that the table's own triggers kept from us, as they stay under their key and people must know.
    async fn quarantine_withheld(
        &self,
        moved: &Moved,
        written: &[WriteOutcome],
        outcome: &mut Round,
    ) -> Result<(), OperationError> {
        let shape = self.source.describe(&self.query.relation).await?;
        let fired = match self.target_part.triggers {
            Triggers::Fire => shape.update_triggers,
            Triggers::Suppress => shape.always_triggers,
        };
        let by = fired.join(", ");
        let rows = moved.updates.iter().zip(&moved.names).zip(written);
        for ((update, name), _) in rows.filter(|(_, one)| **one == WriteOutcome::Withheld) {
            let values = row::withheld(self, update, name.as_ref(), &by);
            outcome.quarantine.extend(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rekey_runtime::leased::RENEW_EVERY;
    use rekey_store::leases::JOB_LEASE;

    use super::*;

    #[test]
    fn a_write_ends_before_the_lease_does_and_that_bears_a_renewal_that_fails() {
        assert!(WRITE_WITHIN + RENEW_EVERY < JOB_LEASE);
        assert!(2 * RENEW_EVERY < JOB_LEASE);
    }
}
