//! The rights that each worker and the command line need, and no more: SQL for the store and the sources, KMS policy, RabbitMQ permissions.

mod kms;
mod sources;
mod store;

use rekey_broker::Grant;
use rekey_domain::Principal;
use rekey_store::keyrings;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::store::{only_of, rights as store_rights};
use crate::{OperationError, Places, Services};

/// A worker program, by the rights it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
}

/// Whoever needs rights at the systems of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grantee {
    /// A person or a pipeline with the command line. Migrating is the store's owner's.
    Operator,
    /// A worker program.
    #[serde(untagged)]
    Worker(Worker),
}

impl Grantee {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::Worker(Worker::Scheduler),
        Self::Worker(Worker::Rotator),
        Self::Worker(Worker::ReEncryptor),
        Self::Operator,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker(worker) => worker.name(),
            Self::Operator => "operator",
        }
    }

    /// Its role in databases: `rekey_re_encryptor`.
    pub fn role(self, prefix: &str) -> String {
        format!("{prefix}{}", self.name().replace('-', "_"))
    }

    /// What it is to RabbitMQ: `rekey init` and `rekey migrate` declare.
    fn at_rabbitmq(self) -> &'static str {
        match self {
            Self::Worker(worker) => worker.name(),
            Self::Operator => "declare",
        }
    }
}

impl From<Worker> for Grantee {
    fn from(worker: Worker) -> Self {
        Self::Worker(worker)
    }
}

/// Everything one worker, or the command line, needs.
#[derive(Debug, Clone, Serialize)]
pub struct Grants {
    /// Who. The name is that of a field of `rekey.grants/v1`, from before there was an operator.
    pub worker: Grantee,
    /// Its role at the databases.
    pub role: String,
    /// SQL to run on the store, as its owner. Empty for a SQLite store.
    pub store: Vec<String>,
    /// SQL that takes back what programs before needed there and nothing does now: to run once none of
    /// them does.
    pub store_revokes: Vec<String>,
    /// SQL to run on each source, as the owner of its tables.
    pub sources: Vec<SourceGrants>,
    /// The policy of its role at AWS, for the KMS; none where it needs none.
    pub kms: Option<Value>,
    /// Its permissions at RabbitMQ.
    pub rabbitmq: RabbitMqGrant,
}

/// What it needs of one source.
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

/// The rights of everyone in this deployment; `role_prefix` is put before their roles' names,
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
    grants_as(services, places, vhost, |who| who.role(role_prefix)).await
}

/// The same where `rekey up` is all workers, in one role.
///
/// # Errors
/// As [`grants`].
pub async fn grants_together(
    services: &Services,
    places: &Places,
    role_prefix: &str,
    vhost: &str,
) -> Result<Vec<Grants>, OperationError> {
    let role = |who| match who {
        Grantee::Worker(_) => format!("{role_prefix}up"),
        Grantee::Operator => who.role(role_prefix),
    };
    let mut all = grants_as(services, places, vhost, role).await?;
    // What one worker no longer needs, another one may.
    for one in &mut all {
        if matches!(one.worker, Grantee::Worker(_)) {
            one.store_revokes.clear();
        }
    }
    Ok(all)
}

async fn grants_as(
    services: &Services,
    places: &Places,
    vhost: &str,
    role_of: impl Fn(Grantee) -> String,
) -> Result<Vec<Grants>, OperationError> {
    let tables = sources::tables(services).await?;
    let brokers = rekey_broker::grants(&places.config.broker.prefix)?;
    let schema = rekey_store::rights::schema(services.store.db()).await?;
    let deployment = keyrings::find_deployment(services.store.db()).await?;
    let mut all = Vec::new();
    for who in Grantee::ALL {
        let role = role_of(who);
        let rabbitmq = brokers.iter().find(|grant| grant.who == who.at_rabbitmq());
        let rabbitmq = rabbitmq.expect("everyone has a grant").clone();
        let on_store = schema.as_deref();
        all.push(Grants {
            worker: who,
            store: on_store.map_or_else(Vec::new, |schema| store::statements(who, &role, schema)),
            store_revokes: on_store
                .map_or_else(Vec::new, |schema| store::revokes(who, &role, schema)),
            sources: sources::statements(who, &role, &tables, services).await?,
            kms: kms::policy(who, deployment),
            rabbitmq: RabbitMqGrant::new(rabbitmq, vhost),
            role,
        });
    }
    Ok(all)
}
