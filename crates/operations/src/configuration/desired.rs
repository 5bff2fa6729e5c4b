//! Desired state: what `rekey.toml` says, parsed and whole.

use rekey_domain::{Algorithm, Bind, KeyringName, KeyringPolicy, Limits, OnUpdate, Purpose};
use rekey_runtime::config::SecretUrl;

/// The source that is the store itself.
pub const STORE_SOURCE: &str = "rekey";

/// Keyrings, sources and columns as they should be.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The keyrings.
    pub keyrings: Vec<DesiredKeyring>,
    /// The sources.
    pub sources: Vec<DesiredSource>,
}

/// A keyring as it should be.
#[derive(Debug, Clone)]
pub struct DesiredKeyring {
    /// Its name.
    pub name: KeyringName,
    /// What its keys are for; never changes.
    pub purpose: Purpose,
    /// How the keys encrypt that it makes from now on.
    pub algorithm: Algorithm,
    /// Its policy.
    pub policy: KeyringPolicy,
}

/// A source as it should be.
#[derive(Debug, Clone)]
pub struct DesiredSource {
    /// Its name.
    pub name: String,
    /// Where it is; stored without its password.
    pub url: SecretUrl,
    /// What it puts up with.
    pub limits: Limits,
    /// Its tables.
    pub tables: Vec<DesiredTable>,
}

/// A table as it should be.
#[derive(Debug, Clone)]
pub struct DesiredTable {
    /// Its name here.
    pub name: String,
    /// Its name in its database.
    pub relation: String,
    /// What was said of the effects that our updates have beyond its rows.
    pub on_update: OnUpdate,
    /// Its protected columns.
    pub columns: Vec<DesiredColumn>,
}

/// A protected column as it should be.
#[derive(Debug, Clone)]
pub struct DesiredColumn {
    /// Its name in its table.
    pub name: String,
    /// Its keyring.
    pub keyring: KeyringName,
    /// What its values are bound to.
    pub bind: Bind,
    /// The stable string in associated data; default `source.schema.table.column`.
    pub column_id: Option<String>,
}

impl Desired {
    /// The keyring that every deployment has, unless the file says more about it.
    pub fn audit_keyring() -> DesiredKeyring {
        let name = "audit".parse().expect("a valid keyring name");
        DesiredKeyring {
            name,
            purpose: Purpose::Audit,
            algorithm: Algorithm::default(),
            policy: KeyringPolicy::default(),
        }
    }

    /// The keyring that signs certificates; every deployment has it too.
    pub fn signing_keyring() -> DesiredKeyring {
        let name = "signing".parse().expect("a valid keyring name");
        DesiredKeyring {
            name,
            purpose: Purpose::Signing,
            algorithm: Purpose::Signing.default_algorithm(),
            policy: KeyringPolicy::default(),
        }
    }

    /// Adds what every deployment has: the keyrings `audit` and `signing`, and the store as the source
    /// `rekey`.
    #[must_use]
    pub fn with_store(mut self, url: &str) -> Self {
        let audit = Self::audit_keyring();
        for ours in [Self::signing_keyring(), audit.clone()] {
            if !self
                .keyrings
                .iter()
                .any(|keyring| keyring.name == ours.name)
            {
                self.keyrings.insert(0, ours);
            }
        }
        let details = DesiredColumn {
            name: "details".to_owned(),
            keyring: audit.name.clone(),
            bind: Bind::Row,
            column_id: Some(rekey_store::audit::DETAILS_COLUMN_ID.to_owned()),
        };
        let row_name = DesiredColumn {
            name: "row_name".to_owned(),
            keyring: audit.name,
            bind: Bind::Columns(vec!["row_key".to_owned()]),
            column_id: Some(rekey_store::quarantine::ROW_NAME_COLUMN_ID.to_owned()),
        };
        let table = |name: &str, column| DesiredTable {
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
        let source = DesiredSource {
            name: STORE_SOURCE.to_owned(),
            url: url.to_owned().into(),
            limits: Limits::default(),
            tables,
        };
        self.sources.insert(0, source);
        self
    }
}
