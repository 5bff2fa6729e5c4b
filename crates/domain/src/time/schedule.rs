//! Cron schedules in IANA time zones: which tick is due, once.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};

/// A schedule that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not a cron line.
    #[error("cron line {found:?}: {reason}; expected five fields: minute hour day month weekday")]
    Cron {
        /// What was given.
        found: String,
        /// What the parser says.
        reason: String,
    },
    /// Not a time zone.
    #[error("time zone {found:?}: expected an IANA name such as Europe/Paris or UTC")]
    TimeZone {
        /// What was given.
        found: String,
    },
}

/// A cron line read in a time zone.
///
/// Daylight saving: a fixed time that a gap skips fires just after the gap; a fixed time that an
/// overlap repeats fires once.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// Reads a five-field cron line (weekdays 1 = Monday to 7) and an IANA time zone.
    ///
    /// # Errors
    /// [`ScheduleError`] names what was given and what is allowed.
    pub fn parse(line: &str, zone: &str) -> Result<Self, ScheduleError> {
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .build()
            .parse(line)
            .map_err(|error| ScheduleError::Cron {
                found: line.to_owned(),
                reason: error.to_string(),
            })?;
        let zone = zone.parse().map_err(|_| ScheduleError::TimeZone {
            found: zone.to_owned(),
        })?;
        Ok(Self { cron, zone })
    }

    /// The first tick after `time`, or `None` when there is none (30 February).
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.zone);
        self.cron
            .find_next_occurrence(&local, false)
            .ok()
            .map(|tick| tick.with_timezone(&Utc))
    }

    /// The tick to fire at `now` when everything up to `fired_up_to` is settled: the latest one that
    /// has come since, so that any number of missed ticks fires once, late. A clock that went back
    /// fires nothing again.
    pub fn due(&self, fired_up_to: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = self.next_after(fired_up_to).filter(|tick| *tick <= now)?;
        let latest = self
            .cron
            .find_previous_occurrence(&now.with_timezone(&self.zone), true)
            .ok();
        Some(latest.map_or(first, |tick| tick.with_timezone(&Utc).max(first)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn monthly_means_the_first_at_midnight() {
        let schedule = Schedule::parse("0 0 1 * *", "UTC").unwrap();
        assert_eq!(
            schedule.next_after(at("2026-11-23T10:00:00Z")),
            Some(at("2026-12-01T00:00:00Z"))
        );
    }

    #[test]
    fn a_time_in_the_gap_fires_just_after_it_once() {
        // Paris, 29 March 2026: 02:00 to 03:00 does not exist.
        let schedule = Schedule::parse("30 2 * * *", "Europe/Paris").unwrap();
        let tick = schedule.next_after(at("2026-03-28T12:00:00Z")).unwrap();
        assert_eq!(
            tick,
            at("2026-03-29T01:00:00Z"),
            "03:00 local, the first minute after the gap"
        );
        assert_eq!(schedule.next_after(tick), Some(at("2026-03-30T00:30:00Z")));
    }

    #[test]
    fn a_time_in_the_overlap_fires_once() {
        // Paris, 25 October 2026: 02:00 to 03:00 happens twice.
        let schedule = Schedule::parse("30 2 * * *", "Europe/Paris").unwrap();
        let tick = schedule.next_after(at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(tick, at("2026-10-25T00:30:00Z"));
        assert_eq!(
            schedule.due(tick, at("2026-10-25T23:00:00Z")),
            None,
            "not again in the second hour"
        );
        assert_eq!(schedule.next_after(tick), Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn missed_ticks_fire_once_late() {
        let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
        let due = schedule.due(at("2026-01-01T00:00:00Z"), at("2026-01-03T07:20:00Z"));
        assert_eq!(due, Some(at("2026-01-03T07:00:00Z")));
        assert_eq!(schedule.due(due.unwrap(), at("2026-01-03T07:59:59Z")), None);
    }

    #[test]
    fn a_clock_that_went_back_fires_nothing_again() {
        let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
        assert_eq!(
            schedule.due(at("2026-01-03T07:00:00Z"), at("2026-01-02T07:00:01Z")),
            None
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for bad in [
            "",
            "* * * *",
            "0 0 0 1 * *",
            "60 * * * *",
            "0 0 32 * *",
            "every day",
        ] {
            assert!(Schedule::parse(bad, "UTC").is_err(), "{bad}");
        }
        let error = Schedule::parse("0 0 1 * *", "Mars/Olympus").unwrap_err();
        assert!(error.to_string().contains("IANA"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Polling at any times, back and forth, fires each tick at most once and in order.
        #[test]
        fn no_tick_fires_twice(polls in prop::collection::vec(0i64..100 * 3_600, 1..50)) {
            let schedule = Schedule::parse("15 */3 * * *", "America/New_York").unwrap();
            let start = at("2026-03-07T00:00:00Z");
            let mut settled = start;
            for poll in polls {
                let now = start + chrono::TimeDelta::seconds(poll);
                if let Some(tick) = schedule.due(settled, now) {
                    prop_assert!(tick > settled && tick <= now);
                    settled = tick;
                }
            }
        }
    }
}
