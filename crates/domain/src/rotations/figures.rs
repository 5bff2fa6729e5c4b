//! What a rotation will write and how long it will take, from what is known of a table.
//!
//! The arithmetic is an estimate on the high side; `docs/operating.md` says how near it came.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a figure was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Every row was looked at.
    Counted,
    /// From the statistics that the database keeps.
    Catalogue,
    /// From some of the rows, as the database keeps no statistics of them.
    Sample,
}

impl Basis {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Catalogue => "catalogue",
            Self::Sample => "sample",
        }
    }
}

/// How a kind of database writes an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// PostgreSQL: a new version of the whole row; the old one stays until it is vacuumed.
    Versions,
    /// SQLite: pages are changed in place, each of them written once more to the journal.
    Pages,
}

/// What is known of a table and its rows that a rotation will write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    /// All rows.
    pub rows: u64,
    /// Rows that have a value to move.
    pub written: u64,
    /// Bytes that one row takes where rows lie, its header included.
    pub row_bytes: u64,
    /// Bytes of the places where rows lie.
    pub heap_bytes: u64,
    /// Bytes of wide values that lie apart (TOAST); all of them count as protected.
    pub toast_bytes: u64,
    /// Bytes of all indexes.
    pub index_bytes: u64,
    /// How many indexes each part has.
    pub indexes: u64,
    /// Whether a protected column is part of an index.
    pub indexed: bool,
}

/// What a rotation will write to a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Written {
    /// Bytes of write-ahead log or journal.
    pub wal: u64,
    /// Bytes by which the files grow, until the room of old versions is used again.
    pub bloat: u64,
    /// The share of rows whose new version fits beside the old one, so that no index is touched
    /// (HOT): 0 to 1. None where there are no versions.
    pub in_place: Option<f64>,
}

/// PostgreSQL's block, less its header.
const BLOCK: u64 = 8192;
const BLOCK_ROOM: u64 = 8192 - 24;
/// WAL of an update beside the new version's own bytes.
const UPDATE_RECORD: u64 = 56;
/// WAL of an entry into an index.
const INDEX_RECORD: u64 = 72;
/// SQLite's page, and what stands before each in the journal.
const PAGE: u64 = 4096;
const PAGE_FRAME: u64 = 24;

/// What moving the rows of a table will write.
pub fn written(storage: Storage, size: &TableSize) -> Written {
    match storage {
        Storage::Versions => versions(size),
        Storage::Pages => pages(size),
    }
}

fn versions(size: &TableSize) -> Written {
    let beside = beside(size);
    // An index on a protected column takes a new entry wherever the new version lies.
    let in_place = if size.indexed { 0.0 } else { beside };
    let elsewhere = share(size.written, 1.0 - beside);
    let indexed = share(size.written, 1.0 - in_place);
    let records = size.written.saturating_mul(size.row_bytes + UPDATE_RECORD);
    // Each page is logged whole, but for its empty middle, when it is first changed after a checkpoint.
    let used = size.rows.saturating_mul(size.row_bytes);
    let pages = share(used.min(size.heap_bytes), size.touched());
    // Entries go into full pages, which are logged whole and split.
    let entries = indexed.saturating_mul(size.indexes * INDEX_RECORD);
    let grown = share(size.index_bytes, indexed as f64 / size.rows.max(1) as f64);
    // Wide values are written anew, and their old pages are changed to say that they are dead.
    let toast = size.toast_bytes.saturating_mul(2);
    Written {
        wal: records
            .saturating_add(pages)
            .saturating_add(entries)
            .saturating_add(grown + grown / 2)
            .saturating_add(toast),
        bloat: elsewhere
            .saturating_mul(size.row_bytes)
            .saturating_add(grown)
            .saturating_add(size.toast_bytes),
        in_place: Some(in_place),
    }
}

impl TableSize {
    /// The share of the table's pages that will be changed.
    fn touched(&self) -> f64 {
        if self.rows == 0 {
            return 0.0;
        }
        let a_page = (self.rows * BLOCK / self.heap_bytes.max(1)).max(1);
        (self.written.saturating_mul(a_page) as f64 / self.rows as f64).min(1.0)
    }
}

/// The share of rows whose new version fits into the page of the old one. All rows of a page are
/// written at about the same time, so what counts is the room beside them.
fn beside(size: &TableSize) -> f64 {
    if size.rows == 0 || size.row_bytes == 0 {
        return 0.0;
    }
    let blocks = size.heap_bytes.div_ceil(BLOCK).max(1);
    let a_block = size.rows as f64 / blocks as f64;
    let moved = (a_block * size.written as f64 / size.rows as f64).max(f64::MIN_POSITIVE);
    let taken = a_block * size.row_bytes as f64;
    let fit = ((BLOCK_ROOM as f64 - taken) / size.row_bytes as f64).floor();
    (fit / moved).clamp(0.0, 1.0)
}

fn pages(size: &TableSize) -> Written {
    let touched = share(size.heap_bytes, size.touched());
    let index = if size.indexed { size.index_bytes } else { 0 };
    let bytes = touched.saturating_add(index);
    Written {
        wal: bytes.saturating_add(bytes.div_ceil(PAGE) * PAGE_FRAME),
        bloat: index,
        in_place: None,
    }
}

fn share(of: u64, share: f64) -> u64 {
    (of as f64 * share).ceil() as u64
}

/// How fast values were moved once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Values that were moved.
    pub values: u64,
    /// In this time.
    pub took: Duration,
}

impl Rate {
    /// None where nothing was moved, or in no time: that says nothing.
    pub fn measured(values: u64, took: Duration) -> Option<Self> {
        (values > 0 && !took.is_zero()).then_some(Self { values, took })
    }

    /// Values a second.
    pub fn per_second(self) -> f64 {
        self.values as f64 / self.took.as_secs_f64()
    }

    /// How long `values` take at this rate.
    pub fn time_for(self, values: u64) -> Duration {
        let seconds = self.took.as_secs_f64() * (values as f64 / self.values as f64);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// Requests to the KMS that a rotation makes when none fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KmsCalls {
    /// `GenerateDataKey`: the next standby, and this one where there is none.
    pub generate: u64,
    /// `Decrypt`, of each process that moves rows: the keys it meets, and the target.
    pub decrypt_each_process: u64,
}

/// How long an unwrapped key is kept in memory.
const KEYS_KEPT: Duration = Duration::from_secs(60 * 60);

/// The requests of a rotation from `below` keys to one; `lasts` is how long it moves rows, if that
/// is known: keys are asked for again once they have been in memory for an hour.
pub fn kms_calls(below: u64, standby_ready: bool, lasts: Option<Duration>) -> KmsCalls {
    let times = lasts.map_or(1, |lasts| {
        lasts.as_secs().div_ceil(KEYS_KEPT.as_secs()).max(1)
    });
    KmsCalls {
        generate: if standby_ready { 1 } else { 2 },
        decrypt_each_process: (below + 1).saturating_mul(times),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLINIC: TableSize = TableSize {
        rows: 100_000,
        written: 100_000,
        row_bytes: 160,
        heap_bytes: 100_000 / 51 * BLOCK,
        toast_bytes: 0,
        index_bytes: 2_200_000,
        indexes: 1,
        indexed: false,
    };

    fn of(size: TableSize) -> Written {
        written(Storage::Versions, &size)
    }

    #[test]
    fn a_full_table_grows_by_all_of_its_new_versions() {
        let full = of(CLINIC);
        assert_eq!(full.in_place, Some(0.0));
        assert_eq!(full.bloat, 100_000 * 160 + 2_200_000);
        assert!(full.wal > 2 * 100_000 * 160);
    }

    #[test]
    fn a_table_with_room_on_every_page_does_not_grow() {
        let roomy = TableSize {
            heap_bytes: 100_000 / 20 * BLOCK,
            ..CLINIC
        };
        let (full, roomy) = (of(CLINIC), of(roomy));
        assert_eq!((roomy.in_place, roomy.bloat), (Some(1.0), 0));
        assert!(roomy.wal < full.wal);
        let indexed = TableSize {
            heap_bytes: 100_000 / 20 * BLOCK,
            indexed: true,
            ..CLINIC
        };
        // Rows stay where they were; the index does not.
        assert_eq!(of(indexed).in_place, Some(0.0));
        assert_eq!(of(indexed).bloat, 2_200_000);
    }

    #[test]
    fn wide_values_are_written_twice_over() {
        let wide = TableSize {
            toast_bytes: 1 << 30,
            ..CLINIC
        };
        assert_eq!(of(wide).wal - of(CLINIC).wal, 2 << 30);
        assert_eq!(of(wide).bloat - of(CLINIC).bloat, 1 << 30);
    }

    #[test]
    fn sqlite_writes_each_page_once_more_and_grows_by_nothing() {
        let written = written(Storage::Pages, &CLINIC);
        assert_eq!((written.bloat, written.in_place), (0, None));
        let of_table = written.wal as f64 / CLINIC.heap_bytes as f64;
        assert!((1.0..1.01).contains(&of_table), "{of_table}");
    }

    #[test]
    fn nothing_takes_nothing() {
        let empty = TableSize {
            rows: 0,
            written: 0,
            heap_bytes: 0,
            index_bytes: 8192,
            ..CLINIC
        };
        for storage in [Storage::Versions, Storage::Pages] {
            let written = written(storage, &empty);
            assert_eq!((written.wal, written.bloat), (0, 0), "{storage:?}");
        }
    }

    #[test]
    fn time_is_as_it_was_measured() {
        let rate = Rate::measured(10_000, Duration::from_secs(2)).unwrap();
        assert_eq!(rate.per_second(), 5_000.0);
        assert_eq!(rate.time_for(1_000_000), Duration::from_secs(200));
        assert_eq!(rate.time_for(0), Duration::ZERO);
        assert_eq!(Rate::measured(0, Duration::from_secs(2)), None);
        assert_eq!(Rate::measured(5, Duration::ZERO), None);
    }

    #[test]
    fn keys_are_asked_for_once_an_hour() {
        let calls = |below, ready, hours: Option<u64>| {
            let lasts = hours.map(|hours| Duration::from_secs(hours * 3600));
            let calls = kms_calls(below, ready, lasts);
            (calls.generate, calls.decrypt_each_process)
        };
        assert_eq!(calls(1, true, None), (1, 2));
        assert_eq!(calls(2, false, Some(0)), (2, 3));
        assert_eq!(calls(1, true, Some(10)), (1, 20));
    }

    proptest! {
        #[test]
        fn more_rows_are_never_less_work(
            rows in 0..u64::MAX >> 20, more in 0..1_000_000u64, row_bytes in 1..8_000u64,
            indexes in 0..20u64, indexed: bool, storage in prop_oneof![Just(Storage::Versions), Just(Storage::Pages)],
        ) {
            let size = |written| TableSize {
                rows: rows + 1_000_000,
                written,
                row_bytes,
                heap_bytes: (rows / (BLOCK_ROOM / row_bytes).max(1)).saturating_mul(BLOCK),
                toast_bytes: 0,
                index_bytes: rows / 300,
                indexes,
                indexed,
            };
            let (less, all) = (written(storage, &size(rows)), written(storage, &size(rows + more)));
            // Floating point rounds figures of this size.
            prop_assert!(less.wal <= all.wal.saturating_add(all.wal >> 40));
            prop_assert!(all.in_place.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }

        #[test]
        fn time_grows_with_values(values in 1u64..1 << 40, took in 1u64..1 << 30, more in 0u64..1 << 40) {
            let rate = Rate::measured(values, Duration::from_millis(took)).expect("something was moved");
            prop_assert!(rate.time_for(more) <= rate.time_for(more * 2 + 1));
        }
    }
}
