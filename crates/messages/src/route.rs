//! Where a message goes: its exchange, the queue that must be bound to it, if one must.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

/// A command or event: the data of one type of CloudEvent.
pub trait Message: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The CloudEvents type, `rekey.<subject>.<verb>.v1`.
    const TYPE: &'static str;
    /// Where it goes.
    const ROUTE: Route;
    /// The queue of those that overtake all others; none: no message of this type does.
    const URGENT: Option<Queue> = None;
    /// Whether people and systems outside may ask for it, over the exchange for requests.
    const FROM_OUTSIDE: bool = false;

    /// Whether this one overtakes all others.
    fn is_urgent(&self) -> bool {
        false
    }

    /// Where this one goes.
    fn route(&self) -> Route {
        let urgent = Self::URGENT.filter(|_| self.is_urgent());
        Route {
            queue: urgent.or(Self::ROUTE.queue),
            ..Self::ROUTE
        }
    }
}

/// One of the two topic exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// What people and systems outside may publish.
    Requests,
    /// Workers only.
    Workers,
}

/// A queue of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Shared by all rotators.
    Rotator,
    /// Shared by all re-encryptors.
    ReEncryptor,
    /// Shared by all re-encryptors too, who take from it first.
    ReEncryptorUrgent,
    /// What people and systems outside publish; rotators admit it or refuse it.
    Requests,
    /// Reports of compromised keys among it, which also stand in `requests`: here no request stands before them.
    Reports,
    /// Exclusive, one a process.
    EveryProcess,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 6] = [
        Self::Rotator,
        Self::ReEncryptor,
        Self::ReEncryptorUrgent,
        Self::Requests,
        Self::Reports,
        Self::EveryProcess,
    ];

    /// Whether several processes share it, and each message is for one of them.
    pub fn is_shared(self) -> bool {
        self != Self::EveryProcess
    }

    /// Whether people and systems outside publish what is in it.
    pub fn is_from_outside(self) -> bool {
        matches!(self, Self::Requests | Self::Reports)
    }

    /// The routing key of messages of this type that are for this queue: their type, marked where they are urgent.
    pub fn routing_key(self, type_: &str) -> String {
        match self {
            Self::ReEncryptorUrgent => format!("{type_}.urgent"),
            _ => type_.to_owned(),
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The exchange it is published to.
    pub exchange: Exchange,
    /// The queue that handles it; none: it tells a fact, and who wants to may listen.
    pub queue: Option<Queue>,
}

impl Route {
    /// To the queue of a worker, or to whoever listens.
    pub(crate) const fn of_workers(queue: Option<Queue>) -> Self {
        Self {
            exchange: Exchange::Workers,
            queue,
        }
    }

    /// To whoever admits what people and systems outside publish, in this queue.
    pub(crate) const fn from_outside(queue: Queue) -> Self {
        Self {
            exchange: Exchange::Requests,
            queue: Some(queue),
        }
    }

    /// Whether a broker must refuse the message when no queue is bound to it.
    pub fn is_mandatory(&self) -> bool {
        self.queue.is_some_and(Queue::is_shared)
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "rekey.requests",
            Self::Workers => "rekey",
        })
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotator => "rotator",
            Self::ReEncryptor => "re-encryptor",
            Self::ReEncryptorUrgent => "re-encryptor.urgent",
            Self::Requests => "requests",
            Self::Reports => "reports",
            Self::EveryProcess => "every-process",
        })
    }
}

impl FromStr for Queue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|queue| queue.to_string() == text)
            .ok_or_else(|| format!("queue {text:?} is not one of ours"))
    }
}
