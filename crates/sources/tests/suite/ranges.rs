//! Ranges: together they hold every row once, whatever the keys look like.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::btree_set, prelude::*, test_runner::TestRunner};
use rekey_domain::Range;
use rekey_sources::Source;
use tokio::runtime::Runtime;

use super::fixture::{Fixture, OLD, id, patient, read_all, ssn, whole};

pub async fn an_empty_table_has_no_range(fixture: &impl Fixture) {
    let source = fixture.source();
    for after in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
        let range = source.next_range("patients", after, 10).await.unwrap();
        assert_eq!(range, None, "after {after:?}");
    }
}

pub async fn a_range_has_about_as_many_rows_as_asked_for(fixture: &impl Fixture) {
    let patients: Vec<_> = (1..=1000).map(|id| patient(id * 1000, OLD)).collect();
    fixture.insert(&patients).await;
    let ranges = all_ranges(fixture.source(), 100).await;
    assert!((8..=13).contains(&ranges.len()), "{ranges:?}");
    // Nobody means no rows at all; a plan must go on.
    let range = fixture.source().next_range("patients", None, 0).await;
    assert!(range.unwrap().is_some());
}

pub fn every_row_is_in_exactly_one_range<F: Fixture>(runtime: &Runtime, new: impl AsyncFn() -> F) {
    let key = prop_oneof![
        4 => any::<i64>(),
        4 => -50i64..50,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
    ];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let input = (btree_set(key, 0..80), 1u32..30);
    let checked = runner.run(&input, |(ids, rows)| {
        runtime.block_on(async { check(&new().await, &ids, rows).await });
        Ok(())
    });
    checked.unwrap();
}

async fn check(fixture: &impl Fixture, ids: &BTreeSet<i64>, rows: u32) {
    let patients: Vec<_> = ids.iter().map(|id| patient(*id, OLD)).collect();
    fixture.insert(&patients).await;
    let ranges = all_ranges(fixture.source(), rows).await;
    assert!(ranges.iter().all(|range| range.first <= range.last));
    assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
    let mut query = whole(fixture.source(), vec![ssn()]).await;
    let mut read = Vec::new();
    for range in ranges {
        query.range = range;
        read.extend(read_all(fixture.source(), &query).await.iter().map(id));
    }
    read.sort_unstable();
    assert_eq!(read, ids.iter().copied().collect::<Vec<_>>());
}

async fn all_ranges(source: &Arc<dyn Source>, rows: u32) -> Vec<Range> {
    let (mut ranges, mut after) = (Vec::new(), None);
    while let Some(range) = source.next_range("patients", after, rows).await.unwrap() {
        after = Some(range.last);
        ranges.push(range);
    }
    ranges
}
