//! Stragglers: values below a keyring's primary key though its rotation is over, and whether a sweep is worth it.

use std::collections::BTreeMap;

use crate::{ColumnName, RotationState};

/// How many values there are of each kind, such as a column and a key.
pub type Figures<K> = BTreeMap<K, u64>;

/// Whether values below the primary key are swept without a person: there must be more `below` of some kind than were
/// in quarantine at the same moment, as a sweep would leave those again. What a cancelled rotation left is for the
/// person who cancelled it.
pub fn worth_a_sweep<K: Ord>(
    latest: Option<RotationState>,
    below: &Figures<K>,
    in_quarantine: &Figures<K>,
) -> bool {
    let more =
        |(kind, values): (&K, &u64)| *values > in_quarantine.get(kind).copied().unwrap_or_default();
    latest == Some(RotationState::Completed) && below.iter().any(more)
}

/// Whether a rotation over `swept`, with what else stands in their rows, goes over all values that were found in `found`.
/// A rotation over all columns names none; where values were found is not always known.
pub fn goes_over_all(swept: Option<&[ColumnName]>, found: Option<&[ColumnName]>) -> bool {
    match (swept, found) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(swept), Some(found)) => found
            .iter()
            .all(|one| swept.iter().any(|column| column.shares_rows_with(one))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_of_some_columns_is_done_with_what_was_found_in_their_rows() {
        let names = |of: &[&str]| -> Vec<ColumnName> {
            of.iter().map(|name| name.parse().unwrap()).collect()
        };
        let swept = names(&["clinic.labs.res"]);
        for (found, expected) in [
            (&["clinic.labs.res"][..], true),
            (&["clinic.labs.note"], true),
            (&["clinic.labs.res", "clinic.patients.ssn"], false),
        ] {
            let found = names(found);
            assert_eq!(goes_over_all(Some(&swept), Some(&found)), expected);
            assert!(goes_over_all(None, Some(&found)));
        }
        assert!(!goes_over_all(Some(&swept), None));
        assert!(goes_over_all(None, None));
    }

    fn figures(of: &[(&'static str, u64)]) -> Figures<&'static str> {
        of.iter().copied().collect()
    }

    #[test]
    fn what_came_after_a_rotation_is_swept_and_what_is_in_quarantine_is_not() {
        let completed = Some(RotationState::Completed);
        let then = figures(&[("ssn phi/1", 3)]);
        for (now, swept) in [
            (figures(&[]), false),
            (figures(&[("ssn phi/1", 2)]), false),
            (then.clone(), false),
            (figures(&[("ssn phi/1", 4)]), true),
            (figures(&[("ssn phi/1", 3), ("notes phi/1", 1)]), true),
        ] {
            assert_eq!(worth_a_sweep(completed, &now, &then), swept, "{now:?}");
        }
    }

    #[test]
    fn nothing_is_swept_beside_another_rotation_or_after_one_that_a_person_ended() {
        let (now, then) = (figures(&[("ssn phi/1", 300)]), figures(&[]));
        for state in RotationState::ALL {
            let swept = worth_a_sweep(Some(state), &now, &then);
            assert_eq!(swept, state == RotationState::Completed, "{state}");
        }
        assert!(!worth_a_sweep(None, &now, &then));
    }
}
