//! `[broker]`: RabbitMQ, or none, which is the store's own outbox.

use super::{SecretUrl, section::Section};

/// `[broker]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfig {
    /// The RabbitMQ node; none: local, messages travel through the store.
    pub url: Option<SecretUrl>,
    /// Stands before the name of every exchange and queue, so that deployments can share a node.
    pub prefix: String,
}

pub(super) fn read(mut section: Section<'_>, store: Option<&SecretUrl>) -> BrokerConfig {
    let url = section.broker_url();
    let prefix = section.text("prefix").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if prefix.len() > 60 || !prefix.chars().all(plain) {
        section.wrong(
            "prefix",
            "expected at most 60 letters, digits, hyphens, underscores and dots",
        );
    }
    if url.is_some() && store.is_none_or(|store| store.expose_url().starts_with("sqlite")) {
        section.wrong(
            "url",
            "RabbitMQ needs a PostgreSQL store, found SQLite; say store.url, or leave broker.url out",
        );
    }
    section.end();
    BrokerConfig { url, prefix }
}
