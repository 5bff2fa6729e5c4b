//! How much a channel is told at once: what presses goes by itself, of all else so many, then one digest.

/// Of what does not press, so many a minute go by themselves.
pub const ALONE_A_MINUTE: u64 = 10;

/// What a channel was told in the last minute, of what does not press.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastMinute {
    /// Messages that went by themselves.
    pub alone: u64,
    /// Whether a digest went.
    pub digest: bool,
}

/// What is done with what waits and does not press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many go by themselves.
    Alone(u64),
    /// All that waits goes into one digest.
    Digest,
    /// It waits until a minute is over.
    Wait,
}

/// How many of `waiting` messages of what has ended go now. Each goes by itself, as a receiver ends what it was told by
/// its id; of one that was told by itself there is one, so they keep up.
pub fn ends(minute: LastMinute, waiting: u64) -> u64 {
    waiting.min(ALONE_A_MINUTE.saturating_sub(minute.alone))
}

/// What is done with `waiting` messages of what began and does not press.
pub fn share(minute: LastMinute, waiting: u64) -> Share {
    let left = ALONE_A_MINUTE.saturating_sub(minute.alone);
    match waiting {
        0 => Share::Wait,
        _ if waiting <= left => Share::Alone(waiting),
        // More than fits: the first go by themselves, so that people see what begins.
        _ if left > 0 => Share::Alone(left),
        _ if !minute.digest => Share::Digest,
        _ => Share::Wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_minute_has_ten_messages_and_a_digest_at_most(storms in prop::collection::vec(0u64..20_000, 1..30)) {
            let mut minute = LastMinute::default();
            let (mut waiting, mut told, mut came) = (0, 0, 0);
            for storm in storms {
                waiting += storm;
                came += storm;
                loop {
                    match share(minute, waiting) {
                        Share::Wait => break,
                        Share::Alone(some) => {
                            prop_assert!(some > 0 && some <= waiting);
                            minute.alone += some;
                            waiting -= some;
                            told += some;
                        }
                        Share::Digest => {
                            prop_assert!(!minute.digest);
                            minute.digest = true;
                            told += waiting;
                            waiting = 0;
                        }
                    }
                }
                prop_assert!(minute.alone <= ALONE_A_MINUTE);
            }
            prop_assert_eq!(told + waiting, came, "nothing is lost");
        }
    }
}
