//! The rights that each worker needs, and no more: SQL for the store and the sources, KMS policy, RabbitMQ permissions.

mod kms;
mod sources;
mod store;

use rekey_broker::Grant;
use rekey_domain::Principal;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::store::rights as store_rights;
use crate::{OperationError, Places, Services};

/// A worker program, by the rights it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worker {
    /// Fires what is due.
    Scheduler,
    /// Switches keys and plans batches.
    Rotator,
    /// Moves rows.
    ReEncryptor,
}

impl Worker {
    /// Every worker.
    pub const ALL: [Self; 3] = [Self::Scheduler, Self::Rotator, Self::ReEncryptor];

    /// Its name, as in `rekey-rotator`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Rotator => "rotator",
            Self::ReEncryptor => "re-encryptor",
        }
    }

    /// Who it is, in logs and towards the keeper of the keys.
    pub fn principal(self) -> Principal {
        Principal::worker(self.name())
    }

    /// Whether it needs the KMS and the sources.
    pub fn uses_keys(self) -> bool {
        self != Self::Scheduler
    }

    /// Its role in databases: `rekey_re_encryptor`.
    pub fn role(self, prefix: &str) -> String {
        format!("{prefix}{}", self.name().replace('-', "_"))
    }
}

/// Everything one worker needs.
#[derive(Debug, Clone, Serialize)]
pub struct Grants {
    /// The worker.
    pub worker: Worker,
    /// Its role at the databases.
    pub role: String,
    /// SQL to run on the store, as its owner. Empty for a SQLite store.
    pub store: Vec<String>,
    /// SQL to run on each source, as the owner of its tables.
    pub sources: Vec<SourceGrants>,
    /// A statement of the master key's policy; none where it needs no KMS.
    pub kms: Option<Value>,
    /// Its permissions at RabbitMQ.
    pub rabbitmq: RabbitMqGrant,
}

/// What a worker needs of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceGrants {
    /// The source.
    pub source: String,
    /// The statements.
    pub sql: Vec<String>,
}

/// Permissions at RabbitMQ: regular expressions over names of exchanges and queues.
#[derive(Debug, Clone, Serialize)]
pub struct RabbitMqGrant {
    /// The virtual host where they are.
    pub vhost: String,
    /// What it may make.
    pub configure: String,
    /// What it may publish to and bind.
    pub write: String,
    /// What it may consume and bind to.
    pub read: String,
}

impl RabbitMqGrant {
    fn new(grant: Grant, vhost: &str) -> Self {
        let Grant {
            configure,
            write,
            read,
            ..
        } = grant;
        Self {
            vhost: vhost.to_owned(),
            configure,
            write,
            read,
        }
    }
}

/// The rights of every worker in this deployment; `role_prefix` is put before their roles' names,
/// `vhost` is where RabbitMQ carries the messages.
///
/// # Errors
/// [`OperationError`] when the store or a source does not answer: a table's partitions and keys are
/// looked up there.
pub async fn grants(
    services: &Services,
    places: &Places,
    role_prefix: &str,
    vhost: &str,
) -> Result<Vec<Grants>, OperationError> {
    let tables = sources::tables(services).await?;
    let brokers = rekey_broker::grants(&places.config.broker.prefix)?;
    let schema = rekey_store::rights::schema(services.store.db()).await?;
    let mut all = Vec::new();
    for worker in Worker::ALL {
        let role = worker.role(role_prefix);
        let rabbitmq = brokers.iter().find(|grant| grant.who == worker.name());
        let rabbitmq = rabbitmq.expect("every worker has its grant").clone();
        let on_store = schema.as_deref();
        all.push(Grants {
            worker,
            store: on_store
                .map_or_else(Vec::new, |schema| store::statements(worker, &role, schema)),
            sources: sources::statements(worker, &role, &tables, services).await?,
            kms: kms::statement(worker),
            rabbitmq: RabbitMqGrant::new(rabbitmq, vhost),
            role,
        });
    }
    Ok(all)
}
