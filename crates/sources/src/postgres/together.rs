//! One statement takes several heaps of a table together.

use rekey_domain::Range;

use super::parts::Heap;

/// A heap that stays what it is until the transaction ends, and the ranges of its blocks.
pub(super) struct Locked {
    pub(super) heap: Heap,
    pub(super) ranges: Vec<Range>,
}

/// Heaps that one statement takes together, as there are many small ones. Each large heap is alone.
pub(super) fn together(heaps: &[Locked], most: usize) -> impl Iterator<Item = &[Locked]> {
    let mut few = 0;
    heaps.chunk_by(move |one, next| {
        let goes_along = one.ranges.len() <= 1 && next.ranges.len() <= 1 && few + 1 < most;
        few = if goes_along { few + 1 } else { 0 };
        goes_along
    })
}
