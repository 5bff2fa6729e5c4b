//! The configuration: `rekey.toml`, and the environment over it, validated as a whole.
//!
//! Every problem is told at once, each with its key and what is allowed there. The file is desired
//! state: `rekey apply` writes it to the store, and workers take policy from the store only.

mod broker;
mod channel;
mod contradictions;
mod destination;
mod keyring;
mod kms;
mod monitoring;
mod overlay;
mod principal;
mod problems;
mod secret_url;
mod section;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, io::Read, ops::RangeInclusive, path::Path};

use ::config::{Map, Value};

pub use broker::BrokerConfig;
pub use channel::{ChannelConfig, ReceiverConfig};
pub use destination::DestinationConfig;
pub use keyring::KeyringConfig;
pub use kms::KmsConfig;
pub use monitoring::MonitoringConfig;
pub use principal::PrincipalConfig;
pub use problems::{ConfigErrors, ConfigProblem};
pub use secret_url::SecretUrl;
pub use source::{ColumnConfig, SourceConfig, TableConfig};

use problems::Problems;
use rekey_domain::BackupPolicy;
use section::Section;

/// Far more than any configuration has.
const FILE_LIMIT: u64 = 1 << 20;

/// What `rekey.toml` and the environment say, whole and without contradictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The store.
    pub store: StoreConfig,
    /// The broker.
    pub broker: BrokerConfig,
    /// The KMS.
    pub kms: KmsConfig,
    /// The keyrings.
    pub keyrings: Vec<KeyringConfig>,
    /// The sources.
    pub sources: Vec<SourceConfig>,
    /// Who may publish requests to the message broker.
    pub principals: Vec<PrincipalConfig>,
    /// Where people are told.
    pub channels: Vec<ChannelConfig>,
    /// Where bundles are kept.
    pub destinations: Vec<DestinationConfig>,
    /// Whether keys of keyrings that are made from now on, and say nothing of it, must be backed up.
    pub backup: BackupPolicy,
    /// The RECOVERY keys that bundles are sealed to, by their fingerprints.
    pub recovery_fingerprints: Vec<String>,
    /// What people are warned of, and when.
    pub monitoring: MonitoringConfig,
    /// Keys that are right and have no effect yet, each with its reason: to be said at start.
    pub without_effect: Vec<ConfigProblem>,
}

/// `[store]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where the store is; none: in the state directory.
    pub url: Option<SecretUrl>,
    /// How many connections to PostgreSQL a process opens at most; none: as many as it likes to have.
    pub connections: Option<u32>,
}

/// At least three: one listens, and work that has one open may ask for another.
const CONNECTIONS: RangeInclusive<u64> = 3..=100;

impl Config {
    /// Reads the file at `path`, if one is named, lays the environment over it, and checks
    /// everything. Without a file it is the embedded default.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every problem there is.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let problems = Problems::default();
        let environment = overlay::environment(&problems);
        let text = path.and_then(|path| read_file(path, &problems));
        let place = path.map_or_else(String::new, |path| path.display().to_string());
        Self::from_parts(
            text.as_deref().map(|text| (place.as_str(), text)),
            environment,
            problems,
        )
    }

    fn from_parts(
        file: Option<(&str, &str)>,
        environment: HashMap<String, String>,
        problems: Problems,
    ) -> Result<Self, ConfigErrors> {
        let mut values = Map::new();
        if let Some((place, text)) = file {
            match overlay::parse(text) {
                Ok(found) => values = found,
                Err(error) => {
                    // What stands in the file is not known: more problems would mislead.
                    problems.add(place, error);
                    return Err(problems.settle().expect_err("there is a problem"));
                }
            }
        }
        overlay::overlay(&mut values, environment, &problems);
        let config = Self::read(values, &problems);
        let without_effect = problems.settle()?;
        let mut config = Self {
            without_effect,
            ..config
        };
        if file.is_none() && config.keyrings.is_empty() {
            config.keyrings.push(KeyringConfig::phi());
        }
        Ok(config)
    }

    fn read(values: Map<String, Value>, problems: &Problems) -> Self {
        let mut root = Section::new("", values, problems);
        let mut store = root.section("store");
        let url = store.store_url();
        let connections = store.whole("connections", CONNECTIONS);
        let connections = connections.and_then(|number| u32::try_from(number).ok());
        store.end();
        let broker = broker::read(root.section("broker"), url.as_ref());
        let kms = kms::read(root.section("kms"));
        let keyrings = read_each(root.sections("keyring"), keyring::read);
        let sources = read_each(root.sections("source"), source::read);
        let principals = read_each(root.sections("principal"), principal::read);
        let channels = read_each(root.sections("channel"), channel::read);
        let monitoring = monitoring::read(root.section("monitoring"));
        let destinations = read_each(root.sections("destination"), destination::read);
        let backup = keyring::read_backup(&mut root);
        let pins = root.texts("recovery_fingerprint");
        root.end();
        contradictions::check(&keyrings, &sources, problems);
        principal::check(&principals, problems);
        channel::check(&channels, problems);
        destination::check(&destinations, problems);
        Self {
            store: StoreConfig { url, connections },
            broker,
            kms,
            keyrings: keyrings.into_iter().map(|(_, keyring)| keyring).collect(),
            sources: sources.into_iter().map(|(_, source)| source).collect(),
            principals: principals
                .into_iter()
                .map(|(_, principal)| principal)
                .collect(),
            channels: channels.into_iter().map(|(_, channel)| channel).collect(),
            destinations: destinations
                .into_iter()
                .map(|(place, one)| DestinationConfig { place, ..one })
                .collect(),
            backup: backup.unwrap_or_default(),
            recovery_fingerprints: pins.unwrap_or_default(),
            monitoring,
            without_effect: Vec::new(),
        }
    }
}

/// What could be read, with its place.
fn read_each<'a, T>(
    sections: Vec<Section<'a>>,
    read: impl Fn(Section<'a>) -> Option<T>,
) -> Vec<(String, T)> {
    let with_place = |section: Section<'a>| Some((section.place().to_owned(), read(section)?));
    sections.into_iter().filter_map(with_place).collect()
}

fn read_file(path: &Path, problems: &Problems) -> Option<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text));
    let problem = match read {
        Err(error) => format!(
            "cannot be read: {}; expected a TOML file",
            rekey_domain::io_words(&error)
        ),
        Ok(length) if length as u64 > FILE_LIMIT => {
            format!("expected at most {FILE_LIMIT} bytes, found more")
        }
        Ok(_) => return Some(text),
    };
    problems.add(path.display().to_string(), problem);
    None
}
