//! Receivers: each kind of channel, opened from its files, takes a letter or says why not.

pub mod http;
#[cfg(feature = "services")]
mod mail;
mod pagerduty;
mod problem;
mod secrets;
mod slack;
mod webhook;

use rekey_runtime::config::{ChannelConfig, MonitoringConfig, ReceiverConfig};

pub use self::problem::Problem;
use crate::letter::{Failure, Letter};

/// Says what is wrong with a channel's files, if anything is.
///
/// # Errors
/// [`Problem`] names the key.
pub fn check(channel: &ChannelConfig) -> Result<(), Problem> {
    Receiver::open(&channel.receiver).map(drop)
}

/// Says what is wrong with the heartbeat's URL, if anything is.
///
/// # Errors
/// What is wrong with it; nothing of it is shown.
pub fn check_heartbeat(monitoring: &MonitoringConfig) -> Result<(), String> {
    match &monitoring.heartbeat_url {
        Some(url) => {
            http::Target::parse(url.expose_url(), monitoring.heartbeat_allow_private).map(drop)
        }
        None => Ok(()),
    }
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
