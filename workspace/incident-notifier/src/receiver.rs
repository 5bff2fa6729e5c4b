//! Receivers: each kind of channel, opened from its files, takes a letter or says why not.

pub mod http;
#[cfg(feature = "services")]
mod mail;
mod pagerduty;
mod secrets;
mod slack;
mod webhook;

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use rekey_domain::ChannelName;
use rekey_operations::notifications::notice::Notice;
use rekey_runtime::config::{ChannelConfig, ReceiverConfig};
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
}

impl Failure {
    /// One that may pass.
    pub fn later(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            may_pass: true,
            asked: None,
            gone: false,
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

/// What is wrong with a channel's files or URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key: `url_file`.
    pub key: &'static str,
    /// What was found and what is expected, without a word of what stands in the file.
    pub problem: String,
    /// Whether the file is not here: it may be elsewhere, where the notifier runs.
    pub is_missing: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Says what is wrong with a channel's files, if anything is.
///
/// # Errors
/// [`Problem`] names the key.
pub fn check(channel: &ChannelConfig) -> Result<(), Problem> {
    Receiver::open(&channel.receiver).map(drop)
}

/// A receiver, with what its files hold now.
pub enum Receiver {
    /// Standard Webhooks.
    Webhook(webhook::Webhook),
    /// Mail.
    #[cfg(feature = "services")]
    Mail(mail::Mail),
    /// PagerDuty.
    PagerDuty(pagerduty::PagerDuty),
    /// Slack.
    Slack(slack::Slack),
}

impl Receiver {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Problem`] names the key.
    pub fn open(config: &ReceiverConfig) -> Result<Self, Problem> {
        Ok(match config {
            ReceiverConfig::Webhook {
                url_file,
                secret_file,
                allow_private,
            } => Self::Webhook(webhook::Webhook::open(
                url_file,
                secret_file,
                *allow_private,
            )?),
            ReceiverConfig::PagerDuty {
                secret_file,
                url_file,
                allow_private,
            } => Self::PagerDuty(pagerduty::PagerDuty::open(
                secret_file,
                url_file.as_deref(),
                *allow_private,
            )?),
            ReceiverConfig::Slack {
                url_file,
                allow_private,
            } => Self::Slack(slack::Slack::open(url_file, *allow_private)?),
            #[cfg(feature = "services")]
            mail @ ReceiverConfig::Mail { .. } => Self::Mail(mail::Mail::open(mail)?),
            #[cfg(not(feature = "services"))]
            ReceiverConfig::Mail { .. } => {
                return Err(Problem {
                    key: "kind",
                    problem:
                        "this program was built without mail: build it with --features services"
                            .to_owned(),
                    is_missing: false,
                });
            }
        })
    }

    /// Has the receiver take a letter.
    ///
    /// # Errors
    /// [`Failure`] says whether to try again.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        match self {
            Self::Webhook(webhook) => webhook.send(letter).await,
            #[cfg(feature = "services")]
            Self::Mail(mail) => mail.send(letter).await,
            Self::PagerDuty(pagerduty) => pagerduty.send(letter).await,
            Self::Slack(slack) => slack.send(letter).await,
        }
    }
}

/// What a notice says, for people: a name and a value on each line.
fn lines(notice: &Notice) -> impl Iterator<Item = (&'static str, String)> {
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
