//! How many encryptions a key has left, counted over all processes by leased blocks.
//!
//! With random 96-bit nonces at most 2^32 encryptions may be made under one key, over all instances
//! (SP 800-38D §8.3). That is GCM; CBC is bounded by blocks and has the same budget, which is well
//! inside its bound (`docs/format/README.md`). Processes take blocks ahead of use; a block that is
//! lost counts as used.

/// The limit of SP 800-38D §8.3, for keys of every algorithm: never passed, whoever asks.
pub const HARD_LIMIT: u64 = 1 << 32;
/// A plan of re-encryption must fit below this, nine tenths of the limit.
pub const PLAN_LIMIT: u64 = HARD_LIMIT / 10 * 9;
/// The first block a process takes.
pub const FIRST_BLOCK: u64 = 1 << 12;
/// The largest block a process takes.
pub const LARGEST_BLOCK: u64 = 1 << 20;

/// Encryptions a process may make under a key without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageBlock {
    /// How many.
    pub size: u64,
}

/// No block can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The key has made all encryptions it may. Rotating the keyring helps, retrying does not.
    #[error(
        "the key has no encryptions left ({used} of {HARD_LIMIT} used, SP 800-38D §8.3); rotate its keyring"
    )]
    Exhausted {
        /// Encryptions counted so far.
        used: u64,
    },
}

/// The size of the block after one of `previous`: doubles up to [`LARGEST_BLOCK`].
pub fn next_block_size(previous: Option<u64>) -> u64 {
    previous.map_or(FIRST_BLOCK, |size| {
        size.saturating_mul(2).clamp(FIRST_BLOCK, LARGEST_BLOCK)
    })
}

/// Takes a block of at most `wanted` from a key of which `used` are gone.
///
/// # Errors
/// [`UsageError::Exhausted`] when nothing is left below the hard limit.
pub fn take_block(used: u64, wanted: u64) -> Result<UsageBlock, UsageError> {
    let left = HARD_LIMIT.saturating_sub(used);
    if left == 0 {
        return Err(UsageError::Exhausted { used });
    }
    Ok(UsageBlock {
        size: wanted.clamp(1, LARGEST_BLOCK).min(left),
    })
}

/// Whether a plan of `encryptions` more fits under a key of which `used` are gone.
pub fn plan_fits(used: u64, encryptions: u64) -> bool {
    used.saturating_add(encryptions) <= PLAN_LIMIT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_sequence_of_blocks_passes_the_limit(
            start in HARD_LIMIT - 3 * LARGEST_BLOCK..=HARD_LIMIT,
            asks in prop::collection::vec(0u64..u64::MAX, 1..20),
        ) {
            let mut used = start;
            for wanted in asks {
                match take_block(used, wanted) {
                    Ok(block) => { prop_assert!(block.size > 0); used += block.size }
                    Err(UsageError::Exhausted { .. }) => prop_assert_eq!(used, HARD_LIMIT),
                }
                prop_assert!(used <= HARD_LIMIT);
            }
        }
    }

    #[test]
    fn blocks_start_small_and_double() {
        let sizes: Vec<u64> = std::iter::successors(Some(next_block_size(None)), |s| {
            Some(next_block_size(Some(*s)))
        })
        .take(10)
        .collect();
        assert_eq!(sizes[..3], [1 << 12, 1 << 13, 1 << 14]);
        assert_eq!(sizes[8..], [1 << 20, 1 << 20]);
    }

    #[test]
    fn a_plan_must_fit_in_nine_tenths() {
        assert!(plan_fits(0, PLAN_LIMIT));
        assert!(!plan_fits(1, PLAN_LIMIT));
        assert!(!plan_fits(1, u64::MAX));
    }
}
