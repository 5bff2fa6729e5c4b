//! A channel: where people are told, and what they are told there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoEnumIterator};

use crate::{AlertKind, IncidentKind, Severity};

const LONGEST: usize = 40;

/// A channel's name, which stands in metrics, alerts and keys of others: 1 to 40 of a-z, 0-9 and '-'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(String);

impl ChannelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChannelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST).contains(&text.len());
        let readable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if fits && text.chars().all(readable) {
            return Ok(Self(text.to_owned()));
        }
        let found: String = text.chars().take(LONGEST + 1).collect();
        Err(format!(
            "channel name {found:?}: expected 1 to {LONGEST} of a-z, 0-9 and '-'"
        ))
    }
}

impl TryFrom<String> for ChannelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0
    }
}

/// What a channel speaks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, EnumIter,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_kind)]
pub enum ChannelKind {
    /// Standard Webhooks.
    Webhook,
    /// Mail over SMTP.
    Mail,
    /// PagerDuty, Events API v2.
    PagerDuty,
    /// A Slack webhook.
    Slack,
}

fn no_kind(text: &str) -> String {
    let known: Vec<_> = ChannelKind::iter().map(|kind| kind.to_string()).collect();
    format!(
        "kind of channel {text:?} is not one of ours: {}",
        known.join(", ")
    )
}

/// What people may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Topic {
    /// A thing that happened.
    Incident(IncidentKind),
    /// A state.
    Alert(AlertKind),
}

impl Topic {
    /// How severe it can be.
    fn most_severe(self) -> Severity {
        match self {
            Self::Incident(kind) => kind.severity(),
            Self::Alert(kind) => kind.most_severe(),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incident(kind) => kind.fmt(f),
            Self::Alert(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let incident = text.parse().map(Self::Incident);
        let alert = || text.parse().map(Self::Alert);
        incident.or_else(|_: String| alert()).map_err(|_: String| {
            let incidents = IncidentKind::iter().map(|kind| kind.to_string());
            let alerts = AlertKind::iter().map(|kind| kind.to_string());
            let known: Vec<_> = incidents.chain(alerts).collect();
            format!(
                "kind {text:?} is not one of ours: expected {}",
                known.join(", ")
            )
        })
    }
}

impl TryFrom<String> for Topic {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.to_string()
    }
}

/// What goes to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPolicy {
    /// The least severity that is told there.
    pub severity: Severity,
    /// What is told there; none: everything.
    #[serde(default)]
    pub kinds: Option<Vec<Topic>>,
}

impl ChannelPolicy {
    /// Whether the channel is told of this.
    pub fn takes(&self, topic: Topic, severity: Severity) -> bool {
        let of_kind = self
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&topic));
        of_kind && severity >= self.severity
    }

    /// The kind that it names and that can never be severe enough for it.
    pub fn contradiction(&self) -> Option<Topic> {
        let named = self.kinds.iter().flatten().copied();
        named
            .into_iter()
            .find(|topic| topic.most_severe() < self.severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_told_what_is_severe_enough_and_of_its_kinds() {
        let of = |severity, kinds: Option<&[&str]>| ChannelPolicy {
            severity,
            kinds: kinds.map(|kinds| kinds.iter().map(|kind| kind.parse().unwrap()).collect()),
        };
        let leaked = Topic::Incident(IncidentKind::Compromised);
        let destroyed = Topic::Alert(AlertKind::KeyMayBeDestroyed);
        let all = of(Severity::Low, None);
        assert!(all.takes(leaked, Severity::Critical) && all.takes(destroyed, Severity::Low));
        let high = of(Severity::High, None);
        assert!(high.takes(leaked, Severity::Critical) && !high.takes(destroyed, Severity::Low));
        let some = of(Severity::Low, Some(&["KEY_MAY_BE_DESTROYED"]));
        assert!(!some.takes(leaked, Severity::Critical) && some.takes(destroyed, Severity::Low));
    }

    #[test]
    fn a_kind_that_is_never_severe_enough_contradicts_and_one_that_becomes_so_does_not() {
        let of = |severity, kind: &str| ChannelPolicy {
            severity,
            kinds: Some(vec!["COMPROMISED".parse().unwrap(), kind.parse().unwrap()]),
        };
        let named = |severity, kind| {
            of(severity, kind)
                .contradiction()
                .map(|one| one.to_string())
        };
        let low = Some("KEY_MAY_BE_DESTROYED".to_owned());
        assert_eq!(named(Severity::High, "KEY_MAY_BE_DESTROYED"), low);
        assert_eq!(named(Severity::Low, "KEY_MAY_BE_DESTROYED"), None);
        assert_eq!(named(Severity::Critical, "EXPIRING"), None);
        assert_eq!(
            named(Severity::Critical, "STRAGGLERS"),
            Some("STRAGGLERS".to_owned())
        );
    }

    #[test]
    fn a_kind_that_there_is_not_is_answered_with_those_there_are() {
        let refused = "KEY_LOST".parse::<Topic>().unwrap_err();
        assert!(refused.contains("\"KEY_LOST\"") && refused.contains("COMPROMISED"));
        assert!(refused.contains("KEY_MAY_BE_DESTROYED"), "{refused}");
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["", "Ops", "a b", "ops\n", "ops/1", &"a".repeat(41)] {
            assert!(name.parse::<ChannelName>().is_err(), "{name:?}");
        }
        assert_eq!("ops-1".parse::<ChannelName>().unwrap().as_str(), "ops-1");
    }
}
