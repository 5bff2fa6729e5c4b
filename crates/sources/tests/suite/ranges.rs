//! Ranges: together they hold every row once, whatever the keys look like.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::btree_set, prelude::*, test_runner::TestRunner};
use rekey_domain::{Part, Range};
use rekey_sources::Source;
use tokio::runtime::Runtime;

use super::fixture::{Fixture, OLD, id, only_part, patient, read_all, ssn, whole};

pub async fn an_empty_table_has_no_range(fixture: &impl Fixture) {
    let source = fixture.source();
    for after in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
        let part = only_part(source, "patients").await;
        let range = source.next_range("patients", &part, after, 10).await;
        assert_eq!(range.unwrap(), None, "after {after:?}");
    }
}

/// Who plans a table that grows faster than it is planned would never end.
pub async fn ranges_end_where_the_part_ended_when_it_was_looked_at(fixture: &impl Fixture) {
    let patients = |ids: std::ops::RangeInclusive<i64>| ids.map(|id| patient(id, OLD));
    fixture.insert(&patients(1..=300).collect::<Vec<_>>()).await;
    let part = only_part(fixture.source(), "patients").await;
    fixture
        .insert(&patients(301..=900).collect::<Vec<_>>())
        .await;
    let ranges = ranges_of(fixture.source(), &part, 100).await;
    assert_eq!(ranges.last().map(|range| range.last), part.end);
    let later = only_part(fixture.source(), "patients").await;
    assert!(later.end > part.end && later.id == part.id);
}

pub async fn a_range_has_about_as_many_rows_as_asked_for(fixture: &impl Fixture) {
    let patients: Vec<_> = (1..=1000).map(|id| patient(id * 1000, OLD)).collect();
    fixture.insert(&patients).await;
    let ranges = all_ranges(fixture.source(), 100).await;
    assert!((8..=13).contains(&ranges.len()), "{ranges:?}");
    // Nobody means no rows at all; a plan must go on.
    let source = fixture.source();
    let part = only_part(source, "patients").await;
    let range = source.next_range("patients", &part, None, 0).await;
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
    let fixture = runtime.block_on(new());
    let checked = runner.run(&input, |(ids, rows)| {
        runtime.block_on(async {
            fixture.execute("DELETE FROM patients").await;
            check(&fixture, &ids, rows).await;
        });
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
    let part = only_part(source, "patients").await;
    ranges_of(source, &part, rows).await
}

async fn ranges_of(source: &Arc<dyn Source>, part: &Part, rows: u32) -> Vec<Range> {
    let (mut ranges, mut after) = (Vec::new(), None);
    loop {
        let range = source.next_range("patients", part, after, rows).await;
        let Some(range) = range.unwrap() else {
            return ranges;
        };
        after = Some(range.last);
        ranges.push(range);
    }
}
