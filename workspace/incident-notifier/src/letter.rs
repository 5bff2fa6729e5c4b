//! A letter to a receiver, and why it was not taken.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekey_domain::{Answers, ChannelName};
use rekey_operations::notifications::notice::Notice;
use uuid::Uuid;

/// What is sent, and as which delivery.
pub struct Letter<'a> {
    /// The same for all attempts.
    pub id: Uuid,
    /// The channel.
    pub channel: &'a ChannelName,
    /// What it says.
    pub notice: &'a Notice,
    /// The store's time.
    pub now: DateTime<Utc>,
    /// What the addresses of a mail answered so far.
    #[cfg_attr(not(feature = "services"), expect(dead_code, reason = "of mail alone"))]
    pub answers: &'a Answers,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In our words: what a receiver answers is never shown.
    pub why: String,
    /// Whether another attempt may succeed.
    pub may_pass: bool,
    /// How long the receiver asks to be left alone.
    pub asked: Option<Duration>,
    /// Whether the receiver wants nothing any more.
    pub gone: bool,
    /// What the addresses of a mail answered, this attempt included; none: nothing new.
    pub answers: Option<Answers>,
}

impl Failure {
    /// One that may pass.
    pub fn later(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            may_pass: true,
            asked: None,
            gone: false,
            answers: None,
        }
    }

    /// One that will not.
    pub fn for_good(why: impl Into<String>) -> Self {
        Self {
            may_pass: false,
            ..Self::later(why)
        }
    }
}

/// What a notice says, for people: a name and a value on each line.
pub fn lines(notice: &Notice) -> impl Iterator<Item = (&'static str, String)> {
    let kinds = notice.kinds.iter();
    let kinds = kinds.map(|one| ("of these", format!("{} {}", one.count, one.kind)));
    let said = [
        ("kind", Some(notice.kind.clone())),
        ("severity", Some(notice.severity.to_string())),
        ("of", notice.subject.clone()),
        ("count", notice.count.map(|count| count.to_string())),
        ("since", Some(notice.began_at.to_rfc3339())),
        ("rotation", notice.rotation.map(|id| id.to_string())),
        ("id", Some(notice.id.to_string())),
        ("deployment", Some(notice.deployment.to_string())),
        ("what helps", Some(notice.command.clone())),
        ("more", notice.link.clone()),
    ];
    let said = said
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    said.chain(kinds).collect::<Vec<_>>().into_iter()
}

/// The text with what HTML reads as marks, and Slack as a mention or a link, made plain.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
