//! The rights that each worker and the command line need, and no more: SQL for the store and the sources, KMS policy,
//! RabbitMQ permissions.

mod destinations;
mod kms;
mod sources;

use rekey_broker::Grant;
use rekey_domain::Role;
use rekey_operations::{OperationError, Services, store_rights};
use rekey_runtime::config::KmsConfig;
use rekey_store::keyrings;
use serde::Serialize;
use serde_json::Value;

pub use self::{destinations::DestinationRights, sources::SourceRights};
use crate::Places;

/// The expression of no name at all.
const NOTHING: &str = "^$";

/// Everything one worker, or the command line, needs.
#[derive(Debug, Clone, Serialize)]
pub struct Rights {
    /// Who. The name is that of a field of `rekey.grants/v1`, from before there was an operator.
    pub worker: Role,
    /// Its role at the databases.
    pub role: String,
    /// SQL to run on the store, as its owner. Empty for a SQLite store.
    pub store: Vec<String>,
    /// SQL that takes back what older programs needed there and no present program does. To be run once no older
    /// program runs.
    pub store_revokes: Vec<String>,
    /// SQL to run on each source, as the owner of its tables.
    pub sources: Vec<SourceRights>,
    /// The policy of its role at AWS, for the KMS; none where it needs none, or the master key is elsewhere.
    pub kms: Option<Value>,
    /// What it needs at destinations of backups that are services.
    pub destinations: Vec<DestinationRights>,
    /// Its permissions at RabbitMQ.
    pub rabbitmq: RabbitMqRights,
}

/// Permissions at RabbitMQ: regular expressions over names of exchanges and queues.
#[derive(Debug, Clone, Serialize)]
pub struct RabbitMqRights {
    /// The virtual host where they are.
    pub vhost: String,
    /// What it may make.
    pub configure: String,
    /// What it may publish to and bind.
    pub write: String,
    /// What it may consume and bind to.
    pub read: String,
}

impl RabbitMqRights {
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

    /// What one user needs that is all of these.
    fn of_all<'a>(all: impl Iterator<Item = &'a Self> + Clone, vhost: &str) -> Self {
        let any = |which: fn(&Self) -> &String| any_of(all.clone().map(which));
        Self {
            vhost: vhost.to_owned(),
            configure: any(|one| &one.configure),
            write: any(|one| &one.write),
            read: any(|one| &one.read),
        }
    }
}

/// An expression for what one of these is for.
fn any_of<'a>(expressions: impl Iterator<Item = &'a String>) -> String {
    let mut some: Vec<_> = expressions
        .map(String::as_str)
        .filter(|one| *one != NOTHING)
        .collect();
    some.dedup();
    match some.is_empty() {
        true => NOTHING.to_owned(),
        false => some.join("|"),
    }
}

/// The rights of everyone in this deployment; `role_prefix` is put before their roles' names,
/// `vhost` is where RabbitMQ carries the messages.
///
/// # Errors
/// [`OperationError`] when the store or a source does not answer: a table's partitions and keys are
/// looked up there.
pub async fn rights(
    services: &Services,
    places: &Places,
    role_prefix: &str,
    vhost: &str,
) -> Result<Vec<Rights>, OperationError> {
    rights_as(services, places, vhost, |who| who.role(role_prefix)).await
}

/// The same where `rekey up` is all workers, in one role.
///
/// # Errors
/// As [`rights`].
pub async fn rights_together(
    services: &Services,
    places: &Places,
    role_prefix: &str,
    vhost: &str,
) -> Result<Vec<Rights>, OperationError> {
    let role = |who| match who {
        Role::Worker(_) => format!("{role_prefix}up"),
        Role::Operator => who.role(role_prefix),
    };
    let mut all = rights_as(services, places, vhost, role).await?;
    let workers = || {
        all.iter()
            .filter(|one| matches!(one.worker, Role::Worker(_)))
    };
    let rabbitmq = RabbitMqRights::of_all(workers().map(|one| &one.rabbitmq), vhost);
    for one in &mut all {
        if matches!(one.worker, Role::Worker(_)) {
            // What one worker no longer needs, another one may.
            one.store_revokes.clear();
            // RabbitMQ replaces what it gave a user before.
            one.rabbitmq = rabbitmq.clone();
        }
    }
    Ok(all)
}

async fn rights_as(
    services: &Services,
    places: &Places,
    vhost: &str,
    role_of: impl Fn(Role) -> String,
) -> Result<Vec<Rights>, OperationError> {
    let tables = sources::tables(services).await?;
    let brokers = rekey_broker::grants(&places.config.broker.prefix)?;
    let of_store = rekey_store::rights::schema(services.store.db()).await?;
    let deployment = keyrings::find_deployment(services.store.db()).await?;
    let at_aws = matches!(places.config.kms, KmsConfig::Aws { .. });
    let mut all = Vec::new();
    for who in Role::ALL {
        let role = role_of(who);
        let rabbitmq = brokers.iter().find(|grant| grant.who == at_rabbitmq(who));
        let rabbitmq = rabbitmq.expect("everyone has a grant").clone();
        let on_store = of_store.as_deref();
        all.push(Rights {
            worker: who,
            store: on_store.map_or_else(Vec::new, |schema| {
                store_rights::statements(who, &role, schema)
            }),
            store_revokes: on_store
                .map_or_else(Vec::new, |schema| store_rights::revokes(who, &role, schema)),
            sources: sources::statements(who, &role, &tables, services).await?,
            kms: at_aws.then(|| kms::policy(who, deployment)).flatten(),
            destinations: destinations::rights(who, services),
            rabbitmq: RabbitMqRights::new(rabbitmq, vhost),
            role,
        });
    }
    Ok(all)
}

/// What it is to RabbitMQ: `rekey init` and `rekey migrate` declare.
fn at_rabbitmq(who: Role) -> &'static str {
    match who {
        Role::Worker(worker) => worker.name(),
        Role::Operator => "declare",
    }
}
