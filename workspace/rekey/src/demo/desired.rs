//! What the demo wants: one keyring, and two protected columns of one table.

use std::time::Duration;

use rekey_domain::{Algorithm, Bind, KeyringPolicy, Limits, OnUpdate, Purpose, Timing};
use rekey_operations::{ColumnConfig, Desired, KeyringConfig, SourceConfig, TableConfig};
use rekey_runtime::config::SecretUrl;

/// The patients stand in `relation` of the database of this URL.
pub fn desired(source_url: &SecretUrl, relation: &str) -> Desired {
    let policy = KeyringPolicy {
        timing: Timing {
            keyset_max_age: Duration::from_secs(2),
            grace_period: Duration::from_secs(4),
            sweep_every: Duration::from_secs(2),
        },
        encrypt_lease: Duration::from_secs(3),
        ..KeyringPolicy::default()
    };
    let phi: rekey_domain::KeyringName = "phi".parse().expect("a valid name");
    let column = |name: &str| ColumnConfig {
        name: name.to_owned(),
        keyring: phi.clone(),
        bind: Bind::Row,
        column_id: None,
    };
    let table = TableConfig {
        name: "patients".to_owned(),
        relation: relation.to_owned(),
        on_update: OnUpdate::default(),
        columns: vec![column("ssn"), column("notes")],
    };
    let source = SourceConfig {
        name: "clinic".to_owned(),
        url: source_url.clone(),
        limits: Limits::default(),
        tables: vec![table],
    };
    let keyring = KeyringConfig {
        name: phi.clone(),
        purpose: Purpose::Phi,
        algorithm: Algorithm::default(),
        policy,
        backup: None,
    };
    Desired {
        keyrings: vec![Desired::audit_keyring(), keyring],
        sources: vec![source],
        ..Desired::default()
    }
}
