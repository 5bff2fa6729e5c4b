//! Desired state: what `rekey.toml` says, parsed and whole.

use rekey_domain::{
    Algorithm, BackupPolicy, Bind, DestinationName, KeyringPolicy, Limits, OnUpdate, Purpose,
};
use rekey_runtime::config::{
    ChannelConfig, ColumnConfig, Config, KeyringConfig, SourceConfig, TableConfig,
};

/// The source that is the store itself.
pub const STORE_SOURCE: &str = "rekey";

/// Keyrings, sources and columns as they should be.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The keyrings.
    pub keyrings: Vec<KeyringConfig>,
    /// The sources.
    pub sources: Vec<SourceConfig>,
    /// The channels by which people are told.
    pub channels: Vec<ChannelConfig>,
    /// Where bundles are kept.
    pub destinations: Vec<DestinationName>,
    /// Whether keys of keyrings that are made, and say nothing of it, must be backed up.
    pub backup: BackupPolicy,
}

impl From<&Config> for Desired {
    fn from(config: &Config) -> Self {
        Self {
            keyrings: config.keyrings.clone(),
            sources: config.sources.clone(),
            channels: config.channels.clone(),
            destinations: Vec::new(),
            backup: config.backup,
        }
    }
}

impl Desired {
    /// The keyring that every deployment has, unless the file says more about it.
    pub fn audit_keyring() -> KeyringConfig {
        let name = "audit".parse().expect("a valid keyring name");
        KeyringConfig {
            name,
            purpose: Purpose::Audit,
            algorithm: Algorithm::default(),
            policy: KeyringPolicy::default(),
            backup: None,
        }
    }

    /// The keyring whose keys seal bundles; there is one where bundles are kept somewhere.
    pub fn backup_keyring() -> KeyringConfig {
        let name = "backup".parse().expect("a valid keyring name");
        KeyringConfig {
            name,
            purpose: Purpose::Backup,
            algorithm: Purpose::Backup.default_algorithm(),
            policy: KeyringPolicy::default(),
            backup: None,
        }
    }

    /// The keyring that signs certificates; every deployment has it too.
    pub fn signing_keyring() -> KeyringConfig {
        let name = "signing".parse().expect("a valid keyring name");
        KeyringConfig {
            name,
            purpose: Purpose::Signing,
            algorithm: Purpose::Signing.default_algorithm(),
            policy: KeyringPolicy::default(),
            backup: None,
        }
    }

    /// Adds what every deployment has: the keyrings `audit` and `signing`, and the store as the source
    /// `rekey`.
    #[must_use]
    pub fn with_store(mut self, url: &str) -> Self {
        let audit = Self::audit_keyring();
        let backup = (!self.destinations.is_empty()).then(Self::backup_keyring);
        let ours = [Some(Self::signing_keyring()), backup, Some(audit.clone())];
        for one in ours.into_iter().flatten() {
            if !self.keyrings.iter().any(|keyring| keyring.name == one.name) {
                self.keyrings.insert(0, one);
            }
        }
        let details = ColumnConfig {
            name: "details".to_owned(),
            keyring: audit.name.clone(),
            bind: Bind::Row,
            column_id: Some(rekey_store::audit::DETAILS_COLUMN_ID.to_owned()),
        };
        let row_name = ColumnConfig {
            name: "row_name".to_owned(),
            keyring: audit.name,
            bind: Bind::Columns(vec!["row_key".to_owned()]),
            column_id: Some(rekey_store::quarantine::ROW_NAME_COLUMN_ID.to_owned()),
        };
        let table = |name: &str, column| TableConfig {
            name: name.to_owned(),
            relation: name.to_owned(),
            // The store is ours: who replicates all of it replicates this too.
            on_update: OnUpdate {
                triggers: None,
                publications_accepted: true,
            },
            columns: vec![column],
        };
        let tables = vec![
            table("audit_detail", details),
            table("quarantine", row_name),
        ];
        let source = SourceConfig {
            name: STORE_SOURCE.to_owned(),
            url: url.to_owned().into(),
            limits: Limits::default(),
            tables,
        };
        self.sources.insert(0, source);
        self
    }
}
