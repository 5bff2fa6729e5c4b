//! A daily window: the hours of a day, by the clocks of a place, in which work may be done.

use std::{fmt, str::FromStr};

use chrono::{DateTime, DurationRound, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The longest until a window opens: one that a gap of daylight saving skips opens a day later.
const TWO_DAYS: i64 = 49 * 60;

/// A window that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "window {found:?}: expected two different times of day and an IANA time zone, such as \"22:00-05:00 Europe/Berlin\""
)]
pub struct WindowError {
    /// What was given.
    pub found: String,
}

/// From one time of day, included, to another, excluded; over midnight where the first is the later.
///
/// The clocks on the wall count: an hour that daylight saving repeats is in the window twice, one
/// that it skips not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from: NaiveTime,
    to: NaiveTime,
    zone: Tz,
}

impl Window {
    /// Whether it is open at `time`.
    pub fn contains(&self, time: DateTime<Utc>) -> bool {
        let local = time.with_timezone(&self.zone).time();
        if self.from < self.to {
            (self.from..self.to).contains(&local)
        } else {
            local >= self.from || local < self.to
        }
    }

    /// When it opens next, where it is closed at `now`: looked for minute by minute, so that
    /// whatever a time zone does to its clocks, what is found is open.
    pub fn opens_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).ok()?;
        (1..=TWO_DAYS)
            .map(|minutes| minute + TimeDelta::minutes(minutes))
            .find(|time| self.contains(*time))
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let read = || {
            let (times, zone) = text.trim().split_once(' ')?;
            let (from, to) = times.split_once('-')?;
            let time = |clock| NaiveTime::parse_from_str(clock, "%H:%M").ok();
            let window = Self {
                from: time(from)?,
                to: time(to)?,
                zone: zone.trim().parse().ok()?,
            };
            (window.from != window.to).then_some(window)
        };
        read().ok_or_else(|| WindowError {
            found: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|time| time.format("%H:%M"));
        write!(f, "{from}-{to} {}", self.zone)
    }
}

#[cfg(test)]
mod tests {
    use chrono::Timelike;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_in_berlin_begins_before_midnight_and_ends_after_it() {
        let night = window("22:00-05:00 Europe/Berlin");
        for (time, open) in [
            ("2026-01-10T20:59:59Z", false),
            ("2026-01-10T21:00:00Z", true),
            ("2026-01-11T00:00:00Z", true),
            ("2026-01-11T03:59:59Z", true),
            ("2026-01-11T04:00:00Z", false),
            // In summer the same hours lie an hour earlier.
            ("2026-07-10T20:00:00Z", true),
            ("2026-07-11T03:00:00Z", false),
        ] {
            assert_eq!(night.contains(at(time)), open, "{time}");
        }
        let opens = night.opens_after(at("2026-01-10T12:30:30Z"));
        assert_eq!(opens, Some(at("2026-01-10T21:00:00Z")));
    }

    #[test]
    fn an_hour_that_is_skipped_is_not_waited_for_on_that_day_and_one_that_comes_twice_counts_twice()
    {
        let hour = window("02:10-02:50 Europe/Berlin");
        // 29 March 2026: 02:00 to 03:00 does not exist.
        let opens = hour.opens_after(at("2026-03-28T12:00:00Z"));
        assert_eq!(opens, Some(at("2026-03-30T00:10:00Z")));
        // 25 October 2026: 02:00 to 03:00 comes twice.
        assert!(hour.contains(at("2026-10-25T00:30:00Z")));
        assert!(!hour.contains(at("2026-10-25T00:55:00Z")));
        assert!(hour.contains(at("2026-10-25T01:30:00Z")));
    }

    #[test]
    fn what_is_no_window_is_refused_with_an_example() {
        for text in [
            "",
            "22:00-05:00",
            "22:00 05:00 UTC",
            "22:00-05:00 Berlin",
            "24:00-05:00 UTC",
            "22:00-22:00 UTC",
            "22-5 UTC",
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.to_string().contains("Europe/Berlin"), "{error}");
        }
    }

    prop_compose! {
        fn windows()(
            from in 0u32..1_440,
            length in 1u32..1_440,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        ) -> Window {
            let time = |minutes: u32| {
                let minutes = minutes % 1_440;
                NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0).unwrap()
            };
            Window { from: time(from), to: time(from + length), zone: zone.parse().unwrap() }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(window in windows()) {
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
        }

        #[test]
        fn each_time_is_in_a_window_or_in_the_one_that_takes_the_rest_of_the_day(window in windows(), seconds in 0i64..2_000_000_000) {
            let rest = Window { from: window.to, to: window.from, ..window };
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assert_ne!(window.contains(time), rest.contains(time));
        }

        #[test]
        fn a_closed_window_opens_at_the_time_it_says_and_not_before(window in windows(), seconds in 1_700_000_000i64..2_000_000_000) {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assume!(!window.contains(now));
            let opens = window.opens_after(now).unwrap();
            prop_assert!(opens > now && window.contains(opens));
            prop_assert!(!window.contains(opens - TimeDelta::minutes(1)) || opens - TimeDelta::minutes(1) < now);
            prop_assert_eq!(opens.second(), 0);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Window>();
        }
    }
}
