//! Chains of checkpoints: whatever is taken out or altered is found, but for the newest.

use proptest::{collection::vec, prelude::*};
use rekey_backups::{ChainError, Checkpoint, SignedCheckpoint, newest};
use uuid::Uuid;

use crate::checkpoints::{SIGNING, checkpoint, pair};

/// A chain with these steps from counter to counter.
fn chain(steps: &[u64]) -> Vec<SignedCheckpoint> {
    let mut all: Vec<SignedCheckpoint> = Vec::new();
    let mut counter = 0;
    for step in steps {
        counter += step;
        let previous = all.last().map(SignedCheckpoint::as_previous);
        all.push(checkpoint(counter, previous).sign(SIGNING, &pair(1)));
    }
    all
}

/// The same checkpoint of the same counter, which says another head of the audit log. Even our key may have signed it.
fn altered(one: &SignedCheckpoint, seed: u8) -> SignedCheckpoint {
    let mut other = one.claims().clone();
    other.audit.sequence += 1;
    other.sign(SIGNING, &pair(seed))
}

fn counter(one: &SignedCheckpoint) -> u64 {
    one.claims().counter
}

/// Of two and more, as one alone is the newest.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    vec(1..5_u64, 2..8)
}

proptest! {
    #[test]
    fn a_whole_chain_ends_in_its_newest(steps in steps(), from in 0..7_usize) {
        let all = chain(&steps);
        prop_assert_eq!(newest(&all, true), Ok(all.last()));
        let part = &all[from % all.len()..];
        prop_assert_eq!(newest(part, false), Ok(all.last()));
        prop_assert_eq!(newest(part, true).is_ok(), part.len() == all.len());
    }

    #[test]
    fn whichever_is_dropped_is_named(steps in steps(), which in 0..7_usize) {
        let mut all = chain(&steps);
        let which = which % (all.len() - 1);
        let missing = counter(&all.remove(which));
        let named_by = counter(&all[which]);
        let expected = Err(ChainError::Missing { missing, named_by });
        prop_assert_eq!(newest(&all, true), expected);
        // Where it is not asked how they begin, a chain may begin with any.
        prop_assert_eq!(newest(&all, false).is_ok(), which == 0);
    }

    #[test]
    fn whichever_is_altered_is_named(steps in steps(), which in 0..7_usize, seed in 1..3_u8) {
        let mut all = chain(&steps);
        let which = which % (all.len() - 1);
        all[which] = altered(&all[which], seed);
        let found = newest(&all, false).unwrap_err();
        let is_named = matches!(found, ChainError::Altered { counter: named, .. } if named == counter(&all[which]));
        prop_assert!(is_named, "{found}");
    }

    #[test]
    fn whatever_byte_is_altered_is_found(steps in steps(), which in 0..7_usize, at in any::<u16>(), bit in 0..8_u32) {
        let mut all = chain(&steps);
        let which = which % (all.len() - 1);
        let mut bytes = all[which].as_bytes().to_vec();
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= 1 << bit;
        // What cannot even be read is found by who lists them.
        if let Ok(read) = SignedCheckpoint::read(&all[which].name(), &bytes) {
            all[which] = read;
            prop_assert!(newest(&all, true).is_err());
        }
    }

    /// The store knows the newest it had written; nothing at the destination does.
    #[test]
    fn that_the_newest_were_dropped_is_not_found_here(steps in steps(), left in 0..7_usize) {
        let all = chain(&steps);
        let left = &all[..left % all.len()];
        prop_assert_eq!(newest(left, true), Ok(left.last()));
    }

    #[test]
    fn two_that_changed_places_are_found(steps in steps(), which in 0..7_usize) {
        let mut all = chain(&steps);
        let which = which % (all.len() - 1);
        all.swap(which, which + 1);
        prop_assert!(newest(&all, false).is_err());
    }
}

#[test]
fn an_empty_destination_has_no_newest() {
    assert_eq!(newest(&[], true), Ok(None));
}

#[test]
fn one_that_the_next_does_not_know_is_named() {
    let mut all = chain(&[1, 3, 3]);
    let stray = checkpoint(2, Some(all[0].as_previous())).sign(SIGNING, &pair(1));
    all.insert(1, stray);
    let (counter, next, named) = (2, 4, Some(1));
    let expected = ChainError::Stray {
        counter,
        next,
        named,
    };
    assert_eq!(newest(&all, true), Err(expected.clone()));
    let shown =
        "checkpoint 2 is in no chain: expected checkpoint 4 to name it as the one before, found 1";
    assert_eq!(expected.to_string(), shown);
}

#[test]
fn a_second_beginning_is_found() {
    let mut all = chain(&[1, 1]);
    all.push(checkpoint(3, None).sign(SIGNING, &pair(1)));
    let (counter, next, named) = (2, 3, None);
    let expected = ChainError::Stray {
        counter,
        next,
        named,
    };
    assert_eq!(newest(&all, true), Err(expected));
}

#[test]
fn the_same_twice_and_one_of_another_deployment_are_found() {
    let all = chain(&[1, 1]);
    let twice = [all[0].clone(), all[0].clone()];
    let unsorted = ChainError::Unsorted {
        counter: 1,
        after: 1,
    };
    assert_eq!(newest(&twice, true), Err(unsorted));
    let deployment = Uuid::nil();
    let foreign = Checkpoint {
        deployment,
        ..all[1].claims().clone()
    };
    let mixed = [all[0].clone(), foreign.sign(SIGNING, &pair(1))];
    let other = ChainError::OtherDeployment {
        counter: 2,
        expected: all[0].claims().deployment,
        found: deployment,
    };
    assert_eq!(newest(&mixed, true), Err(other));
}
