//! Batches and rotations keep figures of what was done and what is in doubt.

use rekey_domain::Rate;
use serde::{Deserialize, Serialize};

/// What batches did, in values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows that were written.
    pub rows: u64,
    /// Values written under the target key.
    pub moved: u64,
    /// Rows that the application changed between our read and our write.
    pub conflicts: u64,
    /// Values left as they were, with a reason.
    pub quarantined: u64,
    /// Values under the target key, or a later one, that opened at their place when they were last
    /// read. Only passes that verify open them.
    #[serde(default)]
    pub opened: u64,
}

impl Tally {
    /// What was done since it stood so.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rows: self.rows - earlier.rows,
            moved: self.moved - earlier.moved,
            conflicts: self.conflicts - earlier.conflicts,
            quarantined: self.quarantined - earlier.quarantined,
            opened: self.opened - earlier.opened,
        }
    }
}

/// A row's place in the order in which its batch is read.
pub type Place = (i64, u16);

/// What an attempt was about to write, while nobody knows whether it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubt {
    /// Rows with values to be moved.
    pub rows: u64,
    /// Those values.
    pub values: u64,
    /// The first place that may be among them; unknown if an older program wrote this.
    #[serde(default)]
    pub from: Option<Place>,
    /// The last place that may be among them.
    pub to: Place,
}

impl InDoubt {
    /// Whether this place comes before all that is in doubt.
    pub fn is_behind(&self, place: Place) -> bool {
        self.from.is_some_and(|from| place < from)
    }

    /// Whether this place comes after all that is in doubt.
    pub fn is_before(&self, place: Place) -> bool {
        self.to < place
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What all batches did, over all passes; of quarantine and of what was opened, what the latest pass
    /// did, as each pass meets the same values again.
    pub tally: Tally,
    /// Batches of the current pass that still count: those that are void were planned again.
    pub batches: u64,
    /// Those of them that are done.
    pub done: u64,
}

/// What stays of a rotation's batches when their rows are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How far it came.
    pub progress: Progress,
    /// How fast its first pass was.
    pub rate: Option<Rate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_its_page_are_in_doubt() {
        let mut doubt = InDoubt {
            rows: 3,
            values: 3,
            from: Some((5, 1)),
            to: (7, 2),
        };
        let of = |doubt: &InDoubt, place| !doubt.is_behind(place) && !doubt.is_before(place);
        for (place, is) in [
            ((5, 0), false),
            ((5, 1), true),
            ((7, 2), true),
            ((7, 3), false),
        ] {
            assert_eq!(of(&doubt, place), is, "{place:?}");
        }
        doubt.from = None;
        assert!(
            of(&doubt, (0, 0)),
            "what an older program told began anywhere"
        );
    }
}
