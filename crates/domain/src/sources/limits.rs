//! The limits of a source: what must hold before our work there goes on, and what we wait for.

use std::{fmt, num::NonZeroU32, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::Window;

/// The longest wait before limits are checked again, as they may change meanwhile.
const AT_THE_LATEST: Duration = Duration::from_secs(60);
/// How long to wait before the source's database is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What a source puts up with, `[source.limits]`. The default is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Rows written a second, over all processes.
    pub rows_per_second: Option<NonZeroU32>,
    /// How far its slowest standby may be behind.
    pub max_replica_lag: Option<Duration>,
    /// Dead tuples that a table may have, as its statistics say.
    pub max_dead_tuples: Option<u64>,
    /// The time of day at which rows may be written.
    pub window: Option<Window>,
    /// Sessions that a process keeps there at most; a count takes up to three more.
    pub connections: Option<NonZeroU32>,
    /// What of this holds for an urgent rotation.
    pub urgent: Urgent,
}

/// What an urgent rotation, such as that of a compromised key, waits for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_urgent)]
pub enum Urgent {
    /// Only what harms the database: a standby that lags, dead tuples. No time of day and no pace.
    #[default]
    Hurry,
    /// All that others wait for.
    AsUsual,
}

fn no_urgent(text: &str) -> String {
    format!("expected \"hurry\" or \"as-usual\", found {text:?}")
}

/// How a source is, as far as its limits ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// How far its slowest standby is behind; None: there is none, or all are up to date.
    pub replica_lag: Option<Duration>,
    /// Dead tuples of the table.
    pub dead_tuples: Option<u64>,
}

/// What a batch waits for. It goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The time of day.
    Window {
        /// What was said.
        window: Window,
        /// When it opens.
        opens: Option<DateTime<Utc>>,
    },
    /// A standby.
    ReplicaLag {
        /// How far it is behind.
        found: Duration,
        /// How far it may be.
        allowed: Duration,
    },
    /// A vacuum.
    DeadTuples {
        /// How many there are.
        found: u64,
        /// How many there may be.
        allowed: u64,
    },
    /// Its turn.
    Pace {
        /// Rows a second.
        allowed: NonZeroU32,
        /// Until it comes.
        wait: Duration,
    },
}

impl Limits {
    /// Those that hold for a rotation that is urgent, or is not.
    #[must_use]
    pub fn of(self, is_urgent: bool) -> Self {
        if !is_urgent || self.urgent == Urgent::AsUsual {
            return self;
        }
        Self {
            rows_per_second: None,
            window: None,
            ..self
        }
    }

    /// What is to be waited for at `now`; the pace is a matter of turns, which [`crate::Pace`] gives.
    pub fn hold(&self, load: &Load, now: DateTime<Utc>) -> Option<Hold> {
        if let Some(window) = self.closed_window(now) {
            return Some(Hold::Window {
                window,
                opens: window.opens_after(now),
            });
        }
        if let (Some(found), Some(allowed)) = (load.replica_lag, self.max_replica_lag)
            && found > allowed
        {
            return Some(Hold::ReplicaLag { found, allowed });
        }
        if let (Some(found), Some(allowed)) = (load.dead_tuples, self.max_dead_tuples)
            && found > allowed
        {
            return Some(Hold::DeadTuples { found, allowed });
        }
        None
    }

    /// Whether its database has to be asked. Outside the window it is left alone.
    pub fn ask_the_source(&self, now: DateTime<Utc>) -> bool {
        let asked = self.max_replica_lag.is_some() || self.max_dead_tuples.is_some();
        asked && self.closed_window(now).is_none()
    }

    /// The rows of a batch where `wanted` are wanted: at most those of one second, so that the pace is even.
    pub fn batch_rows(&self, wanted: u32) -> u32 {
        let a_second = self.rows_per_second.map_or(u32::MAX, NonZeroU32::get);
        wanted.min(a_second)
    }

    fn closed_window(&self, now: DateTime<Utc>) -> Option<Window> {
        self.window.filter(|window| !window.contains(now))
    }
}

impl Hold {
    /// When to look again. Limits may be changed meanwhile, so no wait is long.
    pub fn look_again(&self, now: DateTime<Utc>) -> Duration {
        let wait = match self {
            Self::Window { opens, .. } => opens
                .and_then(|opens| (opens - now).to_std().ok())
                .unwrap_or(AT_THE_LATEST),
            Self::ReplicaLag { .. } | Self::DeadTuples { .. } => ASK_AGAIN,
            Self::Pace { wait, .. } => *wait,
        };
        wait.min(AT_THE_LATEST)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { window, opens } => {
                write!(f, "outside the window {window}")?;
                opens.map_or(Ok(()), |opens| {
                    let opens = opens.to_rfc3339_opts(SecondsFormat::Secs, true);
                    write!(f, " until {opens}")
                })
            }
            Self::ReplicaLag { found, allowed } => {
                let (found, allowed) = (seconds(*found), seconds(*allowed));
                write!(f, "replica lag {found} s of {allowed} s allowed")
            }
            Self::DeadTuples { found, allowed } => {
                write!(f, "{found} dead tuples of {allowed} allowed")
            }
            Self::Pace { allowed, .. } => write!(f, "{allowed} rows a second"),
        }
    }
}

/// Seconds, rounded up to a tenth.
fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        tenth => format!("{}.{tenth}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn lag(found: u64, allowed: u64) -> (Limits, Load) {
        let limits = Limits {
            max_replica_lag: Some(Duration::from_millis(allowed)),
            ..Limits::default()
        };
        let load = Load {
            replica_lag: Some(Duration::from_millis(found)),
            ..Load::default()
        };
        (limits, load)
    }

    #[test]
    fn an_urgent_rotation_waits_for_no_hour_and_no_pace_unless_that_was_said() {
        let usual = Limits {
            rows_per_second: NonZeroU32::new(5),
            max_dead_tuples: Some(7),
            window: Some("22:00-05:00 UTC".parse().unwrap()),
            ..Limits::default()
        };
        assert_eq!(usual.clone().of(false), usual);
        let hurried = usual.clone().of(true);
        assert_eq!((hurried.rows_per_second, hurried.window), (None, None));
        assert_eq!(hurried.max_dead_tuples, Some(7));
        let said = Limits {
            urgent: Urgent::AsUsual,
            ..usual
        };
        assert_eq!(said.clone().of(true), said);
        let before: Limits = serde_json::from_str("{}").unwrap();
        assert_eq!(before, Limits::default(), "as programs before wrote it");
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let now = at("2026-01-10T12:00:00Z");
        let (limits, load) = lag(14_000, 10_000);
        let hold = limits.hold(&load, now).unwrap();
        assert_eq!(hold.to_string(), "replica lag 14 s of 10 s allowed");
        let dead = Hold::DeadTuples {
            found: 12,
            allowed: 10,
        };
        assert_eq!(dead.to_string(), "12 dead tuples of 10 allowed");
        let limits = Limits {
            window: Some("22:00-05:00 Europe/Berlin".parse().unwrap()),
            ..limits
        };
        let hold = limits.hold(&load, now).unwrap();
        let expected = "outside the window 22:00-05:00 Europe/Berlin until 2026-01-10T21:00:00Z";
        assert_eq!(hold.to_string(), expected);
        assert!(!limits.ask_the_source(now) && limits.ask_the_source(at("2026-01-10T22:00:00Z")));
    }

    #[test]
    fn limits_of_a_newer_program_and_of_none_are_read() {
        let read = |text| serde_json::from_str::<Limits>(text).unwrap();
        assert_eq!(read("{}"), Limits::default());
        assert_eq!(read(r#"{"moon_phase": "full"}"#), Limits::default());
    }

    proptest! {
        #[test]
        fn nothing_that_is_within_its_limit_or_without_one_is_waited_for(found in 0u64..100_000, allowed in 0u64..100_000) {
            let (limits, load) = lag(found, allowed);
            let now = at("2026-01-10T12:00:00Z");
            prop_assert_eq!(limits.hold(&load, now).is_some(), found > allowed);
            prop_assert_eq!(Limits::default().hold(&load, now), None);
            let dead = Limits { max_dead_tuples: Some(allowed), ..Limits::default() };
            let load = Load { dead_tuples: Some(found), ..Load::default() };
            prop_assert_eq!(dead.hold(&load, now).is_some(), found > allowed);
            prop_assert_eq!(dead.hold(&Load::default(), now), None);
        }

        #[test]
        fn no_wait_is_longer_than_a_minute_and_a_window_is_not_overslept(seconds in 0i64..2_000_000_000, pace in 0u64..10_000_000) {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            let limits = Limits { window: Some("22:00-05:00 Europe/Berlin".parse().unwrap()), ..Limits::default() };
            if let Some(hold) = limits.hold(&Load::default(), now) {
                let wait = hold.look_again(now);
                prop_assert!(wait <= AT_THE_LATEST);
                let before = now + wait - Duration::from_secs(1);
                prop_assert!(!limits.window.unwrap().contains(before), "overslept");
            }
            let wait = Duration::from_millis(pace);
            let turn = Hold::Pace { allowed: NonZeroU32::MIN, wait };
            prop_assert_eq!(turn.look_again(now), wait.min(AT_THE_LATEST));
        }

        #[test]
        fn limits_stored_read_back(rows in 0u32..10, lag in 0u64..10, dead in 0u64..10) {
            let limits = Limits {
                rows_per_second: NonZeroU32::new(rows),
                max_replica_lag: Some(Duration::from_secs(lag)),
                max_dead_tuples: Some(dead),
                window: Some("22:00-05:00 Europe/Berlin".parse().unwrap()),
                connections: NonZeroU32::new(rows),
                urgent: Urgent::AsUsual,
            };
            let stored = serde_json::to_string(&limits).unwrap();
            prop_assert_eq!(serde_json::from_str::<Limits>(&stored).unwrap(), limits);
        }
    }
}
