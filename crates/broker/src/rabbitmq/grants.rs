//! The permissions that each kind of user needs at RabbitMQ, and no more.

use rekey_messages::{CATALOGUE, Exchange, Queue};

use super::topology::Names;
use crate::BrokerError;

/// What one kind of user may do, as regular expressions over names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who: `declare` (once, such as `rekey migrate`), a worker, or `requester` (people and systems outside).
    pub who: &'static str,
    /// Exchanges and queues it may make.
    pub configure: String,
    /// Exchanges it may publish to, and queues it may bind.
    pub write: String,
    /// Queues it may consume, and exchanges it may bind to.
    pub read: String,
    /// Limits on routing keys.
    pub topics: Vec<TopicGrant>,
}

/// What routing keys of a topic exchange a user may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicGrant {
    /// The exchange.
    pub exchange: String,
    /// What it may publish.
    pub write: String,
    /// What it may bind to.
    pub read: String,
}

/// The permissions of every kind of user, for names with this prefix.
///
/// # Errors
/// [`BrokerError::Options`] for a prefix that cannot be used.
pub fn grants(prefix: &str) -> Result<Vec<Grant>, BrokerError> {
    let names = Names::new(prefix)?;
    Ok(vec![
        declarer(&names),
        worker(&names, "scheduler", &[]),
        worker(&names, "backup-verifier", &[]),
        worker(
            &names,
            "rotator",
            &[
                names.queue(Queue::Rotator),
                names.queue(Queue::Requests),
                names.queue(Queue::Reports),
                names.dead_letters(),
            ],
        ),
        worker(
            &names,
            "re-encryptor",
            &[
                names.queue(Queue::ReEncryptor),
                names.queue(Queue::ReEncryptorUrgent),
            ],
        ),
        worker(&names, "incident-notifier", &[]),
        requester(&names),
    ])
}

fn declarer(names: &Names) -> Grant {
    let all = format!("^{}rekey(\\..*)?$", escape(&names.prefixed("")));
    Grant {
        who: "declare",
        configure: all.clone(),
        write: all.clone(),
        read: all,
        topics: Vec::new(),
    }
}

/// Publishes to the workers' exchange and has a queue of its own for what every process is told.
fn worker(names: &Names, who: &'static str, queues: &[String]) -> Grant {
    let own = format!("{}.*", escape(&names.processes()));
    let exchange = escape(&names.exchange(Exchange::Workers));
    let queues = queues.iter().map(|queue| escape(queue));
    let read = [exchange.clone(), own.clone()].into_iter().chain(queues);
    Grant {
        who,
        configure: one_of([own.clone()]),
        write: one_of([exchange, own]),
        read: one_of(read),
        topics: Vec::new(),
    }
}

fn requester(names: &Names) -> Grant {
    let exchange = names.exchange(Exchange::Requests);
    let types = CATALOGUE.iter().filter(|entry| entry.from_outside);
    Grant {
        who: "requester",
        configure: "^$".to_owned(),
        write: one_of([escape(&exchange)]),
        read: "^$".to_owned(),
        topics: vec![TopicGrant {
            exchange,
            write: one_of(types.map(|entry| escape(entry.name))),
            read: "^$".to_owned(),
        }],
    }
}

fn one_of(expressions: impl IntoIterator<Item = String>) -> String {
    let expressions: Vec<_> = expressions.into_iter().collect();
    format!("^({})$", expressions.join("|"))
}

/// Names have no other character that means something in a regular expression.
fn escape(name: &str) -> String {
    name.replace('.', "\\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_may_only_publish_requests() {
        let grants = grants("").unwrap();
        let requester = grants
            .iter()
            .find(|grant| grant.who == "requester")
            .unwrap();
        assert_eq!(requester.write, r"^(rekey\.requests)$");
        let keys = &requester.topics[0].write;
        let requests = r"^(rekey\.rotation\.requested\.v1|rekey\.key\.compromised\.v1|rekey\.backup\.requested\.v1)$";
        assert_eq!(keys, requests);
    }

    #[test]
    fn no_worker_may_read_what_is_for_another() {
        let grants = grants("clinic.").unwrap();
        let of = |who| grants.iter().find(|grant| grant.who == who).unwrap();
        let re_encryptor = of("re-encryptor");
        let read = [
            r"clinic\.rekey",
            r"clinic\.rekey\.process\..*",
            r"clinic\.rekey\.re-encryptor",
            r"clinic\.rekey\.re-encryptor\.urgent",
        ];
        assert_eq!(re_encryptor.read, one_of(read.map(str::to_owned)));
        assert!(!of("scheduler").read.contains("rotator"));
    }
}
