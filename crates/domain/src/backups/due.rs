//! What a key's backup at one destination needs next, and when.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::BackupProblem;

/// After a failed attempt the next one waits so long, doubled with each, at most [`LONGEST`].
const FIRST: TimeDelta = TimeDelta::seconds(5);
const LONGEST: TimeDelta = TimeDelta::minutes(10);

/// How often backups are made and proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// From one backup to the next.
    pub backup_every: Duration,
    /// From one drill to the next.
    pub drill_every: Duration,
}

/// What is known of one key's backup at one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// When its newest bundle was last stored, or found to be stored already.
    pub stored_at: Option<DateTime<Utc>>,
    /// Whether that bundle is sealed for the BACKUP key and the RECOVERY key of today.
    pub is_for_todays_keys: bool,
    /// When somebody asked for a backup last.
    pub wanted_at: Option<DateTime<Utc>>,
    /// The last attempt to store or prove it.
    pub last: Option<Attempt>,
}

/// The last attempt to store or to prove a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: DateTime<Utc>,
    /// What was wrong.
    pub problem: Option<BackupProblem>,
    /// How often in a row.
    pub times: u32,
}

/// What is done with a key's backup at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupStep {
    /// It is sealed and stored, then proved.
    Store,
    /// What is stored is proved.
    Drill,
    /// Nothing, until then.
    Wait(DateTime<Utc>),
}

/// What is due.
pub fn due(kept: &Kept, cadence: Cadence, now: DateTime<Utc>) -> BackupStep {
    let step = wanted(kept, cadence, now);
    match kept.last {
        // What failed is not tried at every look.
        Some(last) if last.problem.is_some() => {
            let asked = kept.wanted_at.is_some_and(|wanted| wanted > last.at);
            let again = last.at.min(now) + pause(last.times);
            if now < again && !asked {
                return BackupStep::Wait(again);
            }
            step
        }
        _ => step,
    }
}

fn wanted(kept: &Kept, cadence: Cadence, now: DateTime<Utc>) -> BackupStep {
    let Some(stored_at) = kept.stored_at else {
        return BackupStep::Store;
    };
    // What is dated ahead of the clock proves nothing, as where that was set back.
    if stored_at > now || kept.last.is_some_and(|last| last.at > now) {
        return BackupStep::Store;
    }
    let asked = kept.wanted_at.is_some_and(|wanted| wanted > stored_at);
    let store_at = after(stored_at, cadence.backup_every);
    if asked || !kept.is_for_todays_keys || now >= store_at {
        return BackupStep::Store;
    }
    match kept.last {
        // What is wrong with a bundle may be mended by storing it anew.
        Some(Attempt {
            problem: Some(problem),
            ..
        }) if problem.is_a_verdict() => BackupStep::Store,
        Some(Attempt {
            problem: None, at, ..
        }) if at >= stored_at => {
            let drill_at = after(at, cadence.drill_every);
            match now >= drill_at {
                true => BackupStep::Drill,
                false => BackupStep::Wait(drill_at.min(store_at)),
            }
        }
        _ => BackupStep::Drill,
    }
}

fn pause(times: u32) -> TimeDelta {
    let doubled = FIRST * (1 << times.saturating_sub(1).min(10));
    doubled.min(LONGEST)
}

/// However long that is, there is a time after it.
fn after(at: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    let span = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(span)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const CADENCE: Cadence = Cadence {
        backup_every: DAY,
        drill_every: Duration::from_secs(12 * 60 * 60),
    };

    #[test]
    fn what_is_dated_ahead_of_the_clock_is_stored_anew() {
        for ahead in [proved(100, 1), proved(1, 100)] {
            assert_eq!(due(&ahead, CADENCE, at(2)), BackupStep::Store);
        }
    }

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn proved(stored: i64, drilled: i64) -> Kept {
        Kept {
            stored_at: Some(at(stored)),
            is_for_todays_keys: true,
            wanted_at: None,
            last: Some(Attempt {
                at: at(drilled),
                problem: None,
                times: 1,
            }),
        }
    }

    fn failed(kept: Kept, hours: i64, problem: BackupProblem, times: u32) -> Kept {
        let last = Some(Attempt {
            at: at(hours),
            problem: Some(problem),
            times,
        });
        Kept { last, ..kept }
    }

    #[test]
    fn a_key_without_a_bundle_gets_one() {
        assert_eq!(due(&Kept::default(), CADENCE, at(0)), BackupStep::Store);
    }

    #[test]
    fn what_is_stored_is_proved_at_once_and_again_each_half_day() {
        let stored = Kept {
            last: None,
            ..proved(0, 0)
        };
        assert_eq!(due(&stored, CADENCE, at(0)), BackupStep::Drill);
        let proved_once = proved(0, 0);
        assert_eq!(due(&proved_once, CADENCE, at(1)), BackupStep::Wait(at(12)));
        assert_eq!(due(&proved_once, CADENCE, at(12)), BackupStep::Drill);
        // The proof was of the bundle before.
        assert_eq!(due(&proved(2, 1), CADENCE, at(3)), BackupStep::Drill);
    }

    #[test]
    fn everything_is_backed_up_daily_for_new_keys_and_where_somebody_asks() {
        assert_eq!(
            due(&proved(0, 20), CADENCE, at(23)),
            BackupStep::Wait(at(24))
        );
        assert_eq!(due(&proved(0, 20), CADENCE, at(24)), BackupStep::Store);
        let old_keys = Kept {
            is_for_todays_keys: false,
            ..proved(0, 0)
        };
        assert_eq!(due(&old_keys, CADENCE, at(1)), BackupStep::Store);
        let asked = Kept {
            wanted_at: Some(at(1)),
            ..proved(0, 0)
        };
        assert_eq!(due(&asked, CADENCE, at(1)), BackupStep::Store);
        let answered = Kept {
            wanted_at: Some(at(1)),
            ..proved(2, 2)
        };
        assert_eq!(due(&answered, CADENCE, at(3)), BackupStep::Wait(at(14)));
    }

    #[test]
    fn a_bad_bundle_is_stored_anew_after_a_pause_that_grows() {
        let second = TimeDelta::seconds(1);
        for (times, pause) in [(1, 5), (2, 10), (5, 80), (40, 600)] {
            let bad = failed(proved(0, 0), 1, BackupProblem::Missing, times);
            let again = at(1) + TimeDelta::seconds(pause);
            assert_eq!(due(&bad, CADENCE, again - second), BackupStep::Wait(again));
            assert_eq!(due(&bad, CADENCE, again), BackupStep::Store);
        }
    }

    #[test]
    fn where_nothing_was_learned_it_is_looked_again() {
        let away = failed(proved(0, 0), 1, BackupProblem::OutOfReach, 1);
        assert_eq!(due(&away, CADENCE, at(2)), BackupStep::Drill);
        let never = failed(Kept::default(), 1, BackupProblem::OutOfReach, 1);
        assert_eq!(due(&never, CADENCE, at(2)), BackupStep::Store);
    }

    #[test]
    fn what_is_never_due_is_never_due() {
        let never = Cadence {
            backup_every: Duration::MAX,
            drill_every: Duration::MAX,
        };
        let found = due(&proved(0, 0), never, at(1_000_000));
        assert_eq!(found, BackupStep::Wait(DateTime::<Utc>::MAX_UTC));
    }

    #[test]
    fn who_asks_does_not_wait_for_the_pause() {
        let bad = failed(proved(0, 0), 1, BackupProblem::Refused, 40);
        let soon = at(1) + TimeDelta::seconds(2);
        let asked = Kept {
            wanted_at: Some(at(1) + TimeDelta::seconds(1)),
            ..bad
        };
        assert!(matches!(due(&bad, CADENCE, soon), BackupStep::Wait(_)));
        assert_eq!(due(&asked, CADENCE, soon), BackupStep::Store);
    }
}
