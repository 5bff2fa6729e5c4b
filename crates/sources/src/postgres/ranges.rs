//! Ranges of a heap: so many blocks further along, by what a block holds on average.

use rekey_domain::{Part, Range};

/// Rows in a block where nothing is known: some 160 bytes each.
pub(super) const USUAL_ROWS: u32 = 50;
/// More rows do not fit into the largest block.
const MOST_ROWS: f64 = 2_000.0;

/// A number of rows in a block, at least one; None if it says nothing.
pub(super) fn whole_rows(per_block: f64) -> Option<u32> {
    let known = per_block.is_finite() && per_block > 0.0;
    known.then(|| per_block.round().clamp(1.0, MOST_ROWS) as u32)
}

/// The next blocks after `after` that hold about `rows` rows.
pub(super) fn next(part: &Part, after: Option<i64>, rows: u32) -> Option<Range> {
    let end = part.end?;
    let first = after.map_or(Some(0), |after| after.checked_add(1))?.max(0);
    if first > end {
        return None;
    }
    let last = first.saturating_add(blocks(part, rows) - 1).min(end);
    Some(Range { first, last })
}

/// How many blocks of the part hold about `rows` rows; at least one.
pub(super) fn blocks(part: &Part, rows: u32) -> i64 {
    let per_block = i64::from(part.rows_per_block.max(1));
    ((i64::from(rows) + per_block / 2) / per_block).max(1)
}

#[cfg(test)]
mod tests {
    use rekey_domain::PartId;

    use super::*;

    fn part(end: Option<i64>, rows_per_block: u32) -> Part {
        let (name, form) = ("p".to_owned(), "1".to_owned());
        Part {
            id: PartId { name, form },
            end,
            rows_per_block,
        }
    }

    #[test]
    fn ranges_meet_and_end_with_the_part() {
        let part = part(Some(99), 40);
        let (mut after, mut next_first) = (None, 0);
        while let Some(range) = next(&part, after, 300) {
            assert_eq!(range.first, next_first);
            assert!(range.last - range.first < 8);
            (after, next_first) = (Some(range.last), range.last + 1);
        }
        assert_eq!(after, Some(99));
    }

    #[test]
    fn nothing_is_in_an_empty_part_or_behind_the_end() {
        assert_eq!(next(&part(None, 40), None, 10), None);
        for after in [9, i64::MAX] {
            assert_eq!(next(&part(Some(9), 40), Some(after), 10), None);
        }
        let one = Range { first: 0, last: 0 };
        assert_eq!(next(&part(Some(9), 0), Some(i64::MIN), 0), Some(one));
    }

    #[test]
    fn what_says_nothing_of_rows_is_not_believed() {
        for nothing in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(whole_rows(nothing), None);
        }
        assert_eq!(whole_rows(0.01), Some(1));
        assert_eq!(whole_rows(1e9), Some(2_000));
    }
}
