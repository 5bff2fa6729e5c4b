//! What an attempt at a batch moved, reported to the store before each write. A kill leaves at most one page in doubt,
//! and the next attempt finds out about it.

use std::ops::AddAssign;

use rekey_operations::Services;
use rekey_sources::{RowUpdate, WriteOutcome};
use rekey_store::{
    StoreError,
    batches::{self, Batch},
    leases::{self, JOB_LEASE, Lease},
    progress::{InDoubt, Place, Tally},
};

/// The figures of an attempt.
pub struct Account<'a> {
    services: &'a Services,
    batch: &'a Batch,
    lease: &'a Lease,
    /// All that it did.
    pub tally: Tally,
    told: Tally,
    in_doubt: Option<InDoubt>,
    told_doubt: Option<InDoubt>,
}

impl<'a> Account<'a> {
    /// Of an attempt that begins; the one before may have left a page in doubt.
    pub fn open(services: &'a Services, batch: &'a Batch, lease: &'a Lease) -> Self {
        let in_doubt = batch.in_doubt();
        Self {
            services,
            batch,
            lease,
            tally: Tally::default(),
            told: Tally::default(),
            in_doubt,
            told_doubt: in_doubt,
        }
    }

    /// What nobody knows of the attempt before.
    pub fn in_doubt(&self) -> Option<InDoubt> {
        self.in_doubt
    }

    /// Counts what was in doubt: `left` is still to be moved, so the rest was written.
    pub fn settle(&mut self, left: Counted) {
        let Some(doubt) = self.in_doubt.take() else {
            return;
        };
        self.tally.rows += doubt.rows.saturating_sub(left.rows);
        self.tally.moved += doubt.values.saturating_sub(left.values);
    }

    /// Tells what is about to be written, of rows from the first place to the last.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where another has the batch.
    pub async fn begin_page(
        &mut self,
        page: Counted,
        (from, to): (Place, Place),
    ) -> Result<(), StoreError> {
        self.in_doubt = Some(InDoubt {
            rows: page.rows,
            values: page.values,
            from: Some(from),
            to,
        });
        self.tell().await
    }

    /// Counts what was written, whatever came after. If the write failed, the rest stays in doubt.
    pub fn end_page(&mut self, updates: &[RowUpdate], written: &[WriteOutcome], is_known: bool) {
        self.in_doubt = note(&mut self.tally, self.in_doubt, (updates, written), is_known);
    }

    /// Tells the store what it was not told yet.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where another has the batch.
    pub async fn tell(&mut self) -> Result<(), StoreError> {
        if (self.tally, self.in_doubt) == (self.told, self.told_doubt) {
            return Ok(());
        }
        let unit = self.services.store.begin_forgettable().await?;
        leases::hold(&unit, self.lease, JOB_LEASE).await?;
        let since = self.tally.since(&self.told);
        batches::tell(&unit, self.batch, since, self.in_doubt).await?;
        unit.commit().await?;
        (self.told, self.told_doubt) = (self.tally, self.in_doubt);
        Ok(())
    }
}

/// Adds the outcomes of a page's updates to the figures. Returns what of the page stays in doubt: nothing if all
/// outcomes are known.
pub fn note(
    tally: &mut Tally,
    doubt: Option<InDoubt>,
    (updates, written): (&[RowUpdate], &[WriteOutcome]),
    is_known: bool,
) -> Option<InDoubt> {
    debug_assert!(
        updates.windows(2).all(|two| two[0].key != two[1].key),
        "one update a row"
    );
    let mut moved = Counted::default();
    for (update, outcome) in updates.iter().zip(written) {
        match outcome {
            WriteOutcome::Written => {
                moved.rows += 1;
                moved.values += update.columns.len() as u64;
            }
            WriteOutcome::Lost => tally.conflicts += 1,
            WriteOutcome::Skipped | WriteOutcome::Withheld => {}
        }
    }
    tally.rows += moved.rows;
    tally.moved += moved.values;
    doubt.filter(|_| !is_known).map(|doubt| InDoubt {
        rows: doubt.rows.saturating_sub(moved.rows),
        values: doubt.values.saturating_sub(moved.values),
        ..doubt
    })
}

/// Rows and values that are to be moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub rows: u64,
    pub values: u64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.values += more.values;
    }
}
