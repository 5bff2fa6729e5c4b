//! A canary: a rotation that stops by itself after some rows, or after one column's table.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ColumnName;

/// How much of a rotation is done before it waits for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Canary {
    /// About so many rows; then it pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<NonZeroU64>,
    /// The rows of this protected column, with what else of the keyring stands in them; then it
    /// pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<ColumnName>,
}

impl Canary {
    /// Whether anything was asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Rows of a batch where `wanted` are: no more than it takes.
    pub fn batch_rows(&self, wanted: u32) -> u32 {
        let most = self.pause_after.map_or(u64::MAX, NonZeroU64::get);
        u32::try_from(most).map_or(wanted, |most| wanted.min(most))
    }

    /// How many batches of `batch_rows` rows may be in flight once `moved` rows are moved, where
    /// `concurrency` may be; None when it is time to stop.
    pub fn in_flight(&self, moved: u64, batch_rows: u32, concurrency: u32) -> Option<u32> {
        let Some(stop) = self.pause_after else {
            return Some(concurrency);
        };
        let left = stop.get().checked_sub(moved).filter(|left| *left > 0)?;
        let batches = left.div_ceil(u64::from(batch_rows.max(1)));
        Some(u32::try_from(batches).map_or(concurrency, |batches| batches.min(concurrency)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(rows: u64) -> Canary {
        Canary {
            pause_after: NonZeroU64::new(rows),
            only: None,
        }
    }

    #[test]
    fn without_a_canary_the_keyring_decides_alone() {
        assert!(after(0).is_none());
        assert_eq!(after(0).in_flight(u64::MAX, 2_000, 5), Some(5));
        assert_eq!(after(0).batch_rows(2_000), 2_000);
    }

    proptest! {
        /// Batches of as many rows as they are to have, ending in any order.
        #[test]
        fn it_stops_after_the_rows_it_was_told_and_less_than_one_batch_more(
            stop in 1u64..10_000, wanted in 1u32..3_000, concurrency in 1u32..10,
        ) {
            let canary = after(stop);
            let batch_rows = canary.batch_rows(wanted);
            let (mut moved, mut flying) = (0u64, 0u32);
            while let Some(most) = canary.in_flight(moved, batch_rows, concurrency) {
                prop_assert!(most >= 1, "it goes on until it stops");
                flying = flying.max(most) - 1;
                moved += u64::from(batch_rows);
            }
            let with_those_in_flight = moved + u64::from(flying) * u64::from(batch_rows);
            prop_assert!(moved >= stop);
            prop_assert!(with_those_in_flight < stop + u64::from(batch_rows), "{}", with_those_in_flight);
        }
    }
}
