//! Small parts that share a batch: read and reported together, so that thousands of them cost no more than their rows.
//!
//! Only what works at the first try is done here. A part that is locked, cannot be moved, was lost or has to wait gets
//! a batch of its own, which handles such cases.

use std::collections::{BTreeMap, HashSet};

use rekey_domain::WRITE_WITHIN;
use rekey_operations::{OperationError, Services};
use rekey_runtime::crash;
use rekey_sources::{Deadline, Page, PartUpdates, ReadQuery, ValueId, WriteOutcome, WriteTarget};
use rekey_store::{
    batches::{self, Batch},
    leases::{self, JOB_LEASE, Lease},
    progress::{InDoubt, Tally},
    reopened,
    rotations::{self, Rotation},
};
use uuid::Uuid;

use crate::{
    account, again,
    batch::PAGE_BYTES,
    counts,
    row::{self, Moved},
    too_much,
    work::Work,
};

/// Does the batches that `leader` leads, as far as they work at the first try, and has the others sent alone. Returns
/// how many rows were written.
///
/// # Errors
/// Only of the store. Then everything is done once more, and that finds what was written.
pub async fn re_encrypt(
    work: &mut Work<'_>,
    (rotation, leader): (&Rotation, &Batch),
    lease: &Lease,
) -> Result<u64, OperationError> {
    let store = &work.services.store;
    let led = batches::led(store.db(), rotation, leader).await?;
    if led.is_empty() {
        return Ok(0);
    }
    let mut shared = Shared::of(&led);
    if let Err(error) = shared.work(work, lease).await {
        tracing::debug!(rotation = %rotation.id, %error, "small parts are done one by one");
        shared.none_is_done();
    }
    shared.end(work.services, (rotation, leader), lease).await
}

/// The batches that are led.
struct Shared<'a> {
    parts: Vec<Part<'a>>,
}

/// One of them.
struct Part<'a> {
    batch: &'a Batch,
    /// What it did that is not in its row yet.
    tally: Tally,
    /// Its write in doubt, and what its row says of that.
    in_doubt: Option<InDoubt>,
    told_doubt: Option<InDoubt>,
    met: BTreeMap<Uuid, u64>,
    reopened: Vec<(Uuid, ValueId)>,
    stands: Stands,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// To be read.
    Open,
    /// Written, to be read again.
    Written,
    /// Nothing is left of it.
    Done,
    /// Needs a batch of its own.
    Alone,
}

impl<'a> Shared<'a> {
    fn of(led: &'a [Batch]) -> Self {
        let part = |batch: &'a Batch| Part {
            batch,
            tally: Tally::default(),
            in_doubt: batch.in_doubt(),
            told_doubt: batch.in_doubt(),
            met: BTreeMap::new(),
            reopened: Vec::new(),
            stands: match batch.in_doubt() {
                Some(_) => Stands::Alone,
                None => Stands::Open,
            },
        };
        Self {
            parts: led.iter().map(part).collect(),
        }
    }

    /// Marks no part as done: what was read and written depends on a flush that failed.
    fn none_is_done(&mut self) {
        for part in &mut self.parts {
            part.stands = Stands::Alone;
        }
    }

    /// Reads all, writes what moves, and reads that once more.
    async fn work(&mut self, work: &mut Work<'_>, lease: &Lease) -> Result<(), OperationError> {
        let pages = self.read(work, Stands::Open).await?;
        let deadline = work.source.deadline(WRITE_WITHIN).await?;
        let moved = self.seal(work, pages).await?;
        self.tell(work.services, lease).await?;
        crash::point("re-encryptor.encrypted");
        self.write(work, moved, deadline).await?;
        crash::point("re-encryptor.written");
        let again = self.read(work, Stands::Written).await?;
        self.seal(work, again).await?;
        // What was written may be in memory only.
        Ok(work.source.flush().await?)
    }

    /// All that is to be read of each part that stands so.
    async fn read(
        &mut self,
        work: &mut Work<'_>,
        stands: Stands,
    ) -> Result<Vec<(usize, Page)>, OperationError> {
        let parts = self.parts.iter().enumerate();
        let which: Vec<usize> = parts
            .filter(|(_, part)| part.stands == stands)
            .map(|(at, _)| at)
            .collect();
        let query = |at: &usize| {
            work.turn_to(self.parts[*at].batch);
            work.query.clone()
        };
        let queries: Vec<ReadQuery> = which.iter().map(query).collect();
        let pages = work.source.read_together(&queries, PAGE_BYTES).await?;
        let mut read = Vec::new();
        for (at, page) in which.into_iter().zip(pages) {
            match page {
                Some(page) => read.push((at, page)),
                None => self.parts[at].stands = Stands::Alone,
            }
        }
        Ok(read)
    }

    /// Opens every value and seals anew what moves. Where nothing moves and all opened, the part is done.
    async fn seal(
        &mut self,
        work: &mut Work<'_>,
        pages: Vec<(usize, Page)>,
    ) -> Result<Vec<(usize, Moved)>, OperationError> {
        let mut all = Vec::new();
        for (at, page) in pages {
            let part = &mut self.parts[at];
            work.turn_to(part.batch);
            if part.stands == Stands::Open {
                part.met = work.met_in(&page.rows);
            }
            let ends = page.rows.first().zip(page.rows.last());
            let ends = ends.map(|(first, last)| (first.key.place(), last.key.place()));
            let mut moved = row::re_encrypt(work, page.rows).await?;
            part.tally.opened = moved.opened;
            part.reopened = std::mem::take(&mut moved.reopened);
            part.stands = match (
                moved.updates.is_empty(),
                moved.quarantine.is_empty(),
                part.stands,
            ) {
                (true, true, _) => Stands::Done,
                (false, true, Stands::Open) => Stands::Open,
                _ => Stands::Alone,
            };
            if part.stands == Stands::Open {
                part.in_doubt = ends.map(|(from, to)| InDoubt {
                    rows: moved.to_move.rows,
                    values: moved.to_move.values,
                    from: Some(from),
                    to,
                });
                all.push((at, moved));
            }
        }
        Ok(all)
    }

    /// Tells the store what is about to be written, all of it at once.
    async fn tell(&mut self, services: &Services, lease: &Lease) -> Result<(), OperationError> {
        let parts = self.parts.iter_mut();
        let to_write = parts.filter(|part| part.stands == Stands::Open);
        let unit = services.store.begin_forgettable().await?;
        leases::hold(&unit, lease, JOB_LEASE).await?;
        for part in to_write {
            batches::tell(&unit, part.batch, Tally::default(), part.in_doubt).await?;
            part.told_doubt = part.in_doubt;
        }
        Ok(unit.commit().await?)
    }

    /// Writes the updates. A part that is not written completely is left to a batch of its own; only writes with
    /// unknown outcomes stay in doubt.
    async fn write(
        &mut self,
        work: &mut Work<'_>,
        moved: Vec<(usize, Moved)>,
        deadline: Deadline,
    ) -> Result<(), OperationError> {
        let target_of = |(at, _): &(usize, Moved)| {
            work.turn_to(self.parts[*at].batch);
            work.target_part.clone()
        };
        let targets: Vec<WriteTarget> = moved.iter().map(target_of).collect();
        let updates: Vec<_> = std::iter::zip(&moved, &targets)
            .map(|((_, moved), target)| PartUpdates {
                target,
                updates: &moved.updates,
            })
            .collect();
        let skipped = |part: &PartUpdates<'_>| vec![WriteOutcome::Skipped; part.updates.len()];
        let mut written: Vec<_> = updates.iter().map(skipped).collect();
        let source = &work.source;
        let known = source
            .write_together(&updates, deadline, &mut written)
            .await;
        // Nothing was written then.
        let known = known.inspect_err(|_| {
            for (at, _) in &moved {
                self.parts[*at].in_doubt = None;
            }
        })?;
        for (((at, one), outcomes), is_known) in moved.iter().zip(written).zip(known) {
            let part = &mut self.parts[*at];
            let page = (&*one.updates, &*outcomes);
            part.in_doubt = account::note(&mut part.tally, part.in_doubt, page, is_known);
            let is_written = |outcome: &WriteOutcome| *outcome == WriteOutcome::Written;
            part.stands = match is_known && outcomes.iter().all(is_written) {
                true => Stands::Written,
                false => Stands::Alone,
            };
        }
        Ok(())
    }

    /// Ends what is done, and has the others sent by themselves.
    async fn end(
        self,
        services: &Services,
        (rotation, leader): (&Rotation, &Batch),
        lease: &Lease,
    ) -> Result<u64, OperationError> {
        let unit = services.store.begin().await?;
        leases::hold(&unit, lease, JOB_LEASE).await?;
        let held = rotations::lock(&unit, rotation.id).await?;
        // Without those that an older program, which knows no leaders, sent alone meanwhile.
        let open = batches::led(unit.db(), rotation, leader).await?;
        let open: HashSet<Uuid> = open.into_iter().map(|batch| batch.id).collect();
        let (mut met, mut done, mut rows) = (BTreeMap::new(), Vec::new(), 0);
        for part in self
            .parts
            .iter()
            .filter(|part| open.contains(&part.batch.id))
        {
            rows += part.tally.rows;
            if part.stands == Stands::Done {
                batches::finish(&unit, &held, part.batch, part.tally).await?;
                reopened::add(&unit, rotation, &again::stored(&part.reopened)).await?;
                done.push(part.tally);
                for (column, values) in &part.met {
                    *met.entry(*column).or_default() += values;
                }
                continue;
            }
            let told = Tally {
                opened: 0,
                ..part.tally
            };
            if told != Tally::default() || part.in_doubt != part.told_doubt {
                batches::tell(&unit, part.batch, told, part.in_doubt).await?;
                counts::count_moved(&told);
            }
        }
        batches::release(&unit, leader).await?;
        let paused = too_much::of(&unit, &held, &met).await?;
        unit.commit().await?;
        if let Some(why) = paused {
            tracing::error!(rotation = %rotation.id, why, "the rotation is paused");
        }
        done.iter().for_each(|tally| counts::count(tally, "done"));
        Ok(rows)
    }
}
