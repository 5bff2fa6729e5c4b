//! `[[channel]]`: where people are told. What goes there is policy, which `rekey apply` writes to the store; URL and
//! secret are the notifier's own, and stand in files.

use std::path::PathBuf;

use rekey_domain::{ChannelKind, ChannelName, ChannelPolicy, Severity};

use super::{problems::Problems, section::Section};

const KINDS: &str = "\"webhook\", \"mail\", \"pagerduty\" or \"slack\"";
/// What STARTTLS is offered at (RFC 6409).
const SUBMISSION: u16 = 587;

/// One `[[channel]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Its name.
    pub name: ChannelName,
    /// What goes there.
    pub policy: ChannelPolicy,
    /// How it is reached.
    pub receiver: ReceiverConfig,
}

/// How a channel is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverConfig {
    /// Standard Webhooks.
    Webhook {
        /// Where the URL stands.
        url_file: PathBuf,
        /// Where the secret stands, `whsec_…`; a second line holds the one before, while it is being replaced.
        secret_file: PathBuf,
        /// Whether it may be on this machine or in a private network.
        allow_private: bool,
    },
    /// Mail.
    Mail {
        /// The server's name.
        server: String,
        /// Its port.
        port: u16,
        /// Who it is from.
        from: String,
        /// Who gets it.
        to: Vec<String>,
        /// The user at the server; none: it wants no login.
        user: Option<String>,
        /// Where the user's password stands.
        secret_file: Option<PathBuf>,
    },
    /// PagerDuty.
    PagerDuty {
        /// Where the integration key stands.
        secret_file: PathBuf,
        /// Where the URL stands, if it is not that of PagerDuty in the United States.
        url_file: Option<PathBuf>,
        /// As of a webhook.
        allow_private: bool,
    },
    /// A Slack webhook.
    Slack {
        /// Where the URL stands, which is the secret.
        url_file: PathBuf,
        /// As of a webhook.
        allow_private: bool,
    },
}

impl ReceiverConfig {
    /// What the channel speaks.
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::Webhook { .. } => ChannelKind::Webhook,
            Self::Mail { .. } => ChannelKind::Mail,
            Self::PagerDuty { .. } => ChannelKind::PagerDuty,
            Self::Slack { .. } => ChannelKind::Slack,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Option<ChannelConfig> {
    let name = section.required("name", "\"ops\"");
    let name = name.and_then(|name| {
        let wrong = |error| section.wrong("name", error);
        name.parse::<ChannelName>().map_err(wrong).ok()
    });
    let kind = section.required("kind", "\"webhook\"");
    let kind = kind.and_then(|kind| {
        let wrong = |_| section.wrong("kind", format!("expected {KINDS}, found {kind:?}"));
        kind.parse::<ChannelKind>().map_err(wrong).ok()
    });
    let severity = section.parsed("severity", |text| {
        let wrong = |_| format!("expected \"LOW\", \"HIGH\" or \"CRITICAL\", found {text:?}");
        text.parse::<Severity>().map_err(wrong)
    });
    let kinds = section.texts("kinds").map(|kinds| {
        if kinds.is_empty() {
            section.wrong("kinds", "is empty; leave it out, and everything goes there");
        }
        let read = kinds.iter().filter_map(|topic| {
            let wrong = |error| section.wrong("kinds", error);
            topic.parse().map_err(wrong).ok()
        });
        read.collect::<Vec<_>>()
    });
    let policy = ChannelPolicy {
        severity: severity.unwrap_or(Severity::Low),
        kinds,
    };
    if let Some(topic) = policy.contradiction() {
        let least = policy.severity;
        let never = format!("{topic} is never {least}, the least severity that goes there");
        section.wrong("kinds", never);
    }
    let receiver = kind.and_then(|kind| read_receiver(&mut section, kind));
    // Of a kind that could not be read nobody knows which keys it has.
    if kind.is_some() {
        section.end();
    }
    Some(ChannelConfig {
        name: name?,
        policy,
        receiver: receiver?,
    })
}

fn read_receiver(section: &mut Section<'_>, kind: ChannelKind) -> Option<ReceiverConfig> {
    Some(match kind {
        ChannelKind::Webhook => {
            let url_file = file(section, "url_file");
            let secret_file = file(section, "secret_file");
            let allow_private = section.flag("allow_private").unwrap_or(false);
            ReceiverConfig::Webhook {
                url_file: url_file?,
                secret_file: secret_file?,
                allow_private,
            }
        }
        ChannelKind::Slack => {
            let url_file = file(section, "url_file");
            let allow_private = section.flag("allow_private").unwrap_or(false);
            ReceiverConfig::Slack {
                url_file: url_file?,
                allow_private,
            }
        }
        ChannelKind::PagerDuty => {
            let secret_file = file(section, "secret_file");
            let url_file = optional_file(section, "url_file");
            let allow_private = section.flag("allow_private").unwrap_or(false);
            ReceiverConfig::PagerDuty {
                secret_file: secret_file?,
                url_file,
                allow_private,
            }
        }
        ChannelKind::Mail => read_mail(section)?,
    })
}

/// A file that has to be named.
fn file(section: &mut Section<'_>, name: &'static str) -> Option<PathBuf> {
    let example = format!("\"/run/secrets/{name}\"");
    section.required(name, &example).map(PathBuf::from)
}

fn optional_file(section: &mut Section<'_>, name: &'static str) -> Option<PathBuf> {
    section.text(name).map(PathBuf::from)
}

fn read_mail(section: &mut Section<'_>) -> Option<ReceiverConfig> {
    let server = section.required("server", "\"mail.clinic.example\"");
    let port = section.whole("port", 1..=65_535);
    let from = section.required("from", "\"rekey@clinic.example\"");
    let has_to = section.has("to");
    let to = section.texts("to").unwrap_or_default();
    if !has_to || to.is_empty() {
        section.wrong(
            "to",
            "is missing; expected such as to = [\"ops@clinic.example\"]",
        );
    }
    let user = section.text("user");
    let secret_file = section.text("secret_file").map(PathBuf::from);
    if user.is_some() != secret_file.is_some() {
        section.wrong(
            "secret_file",
            "a login needs both: user, and secret_file with the password",
        );
    }
    for (key, address) in from
        .iter()
        .map(|one| ("from", one))
        .chain(to.iter().map(|one| ("to", one)))
    {
        if !is_address(address) {
            section.wrong(key, "expected a mail address such as ops@clinic.example");
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if server
        .as_ref()
        .is_some_and(|name| name.is_empty() || !name.chars().all(plain))
    {
        section.wrong(
            "server",
            "expected the name of a host; its port stands in port",
        );
    }
    Some(ReceiverConfig::Mail {
        server: server?,
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(SUBMISSION),
        from: from?,
        to,
        user,
        secret_file,
    })
}

/// Whether it looks like an address. The mail library parses it whole, and the server has the last word.
fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"<>()[]\\,;:\"".contains(c);
    let parts = text.split_once('@');
    parts.is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !host.contains('@') && text.chars().all(plain)
    })
}

/// A name is one channel's.
pub(super) fn check(channels: &[(String, ChannelConfig)], problems: &Problems) {
    for (index, (place, channel)) in channels.iter().enumerate() {
        let mut earlier = channels[..index].iter();
        if let Some((first, _)) = earlier.find(|(_, one)| one.name == channel.name) {
            let problem = format!("already a channel has this name: {first}.name");
            problems.add(format!("{place}.name"), problem);
        }
    }
}
