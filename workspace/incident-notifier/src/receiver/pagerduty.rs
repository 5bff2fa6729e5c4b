//! PagerDuty, Events API v2. What is opened there under the id of an incident or alert is resolved under it.

use std::path::Path;

use rekey_domain::Severity;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{
    http::{self, Target},
    problem::Problem,
    secrets,
};
use crate::letter::{Failure, Letter};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// A service at PagerDuty.
pub struct PagerDuty {
    target: Target,
    key: SecretString,
}

impl PagerDuty {
    pub(super) fn open(
        secret_file: &Path,
        url_file: Option<&Path>,
        allow_private: bool,
    ) -> Result<Self, Problem> {
        let key = secrets::read("secret_file", secret_file)?;
        let target = match url_file {
            Some(file) => Target::in_file("url_file", file, allow_private)?,
            None => Target::parse(URL, false).expect("it is a URL"),
        };
        Ok(Self { target, key })
    }

    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        let notice = letter.notice;
        // Unlike alerts under one key would be resolved with one another.
        let dedup_key = match notice.about.as_str() {
            "digest" => format!("digest/{}", letter.channel),
            _ => notice.id.to_string(),
        };
        let action = if notice.is_end() {
            "resolve"
        } else {
            "trigger"
        };
        let links = notice
            .link
            .iter()
            .map(|link| json!({ "href": link, "text": notice.kind }));
        let event = json!({
            "routing_key": self.key.expose_secret(),
            "event_action": action,
            "dedup_key": dedup_key,
            "client": "rekey",
            "links": links.collect::<Vec<_>>(),
            "payload": {
                "summary": notice.title(),
                "source": notice.deployment,
                "severity": severity(notice.severity),
                "timestamp": notice.began_at,
                "class": notice.kind,
                "custom_details": notice,
            },
        });
        http::post(&self.target, &[], event.to_string()).await
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Low => "info",
    }
}
