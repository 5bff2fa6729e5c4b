//! Every command and event, declared once.
//!
//! A message is a CloudEvents 1.0 event in structured mode; its `data` is one of the structs of
//! [`catalogue`](CATALOGUE). Routing, queues, documents and schemas follow from the declaration.
//! Messages carry ids, never key material: the row is the truth, a message is a wake-up (rule 2).

mod backups;
mod catalogue;
mod certificates;
mod event;
mod incidents;
mod keys;
mod rotations;
mod route;

pub use backups::{BackupRequested, KeyBackedUp};
pub use catalogue::{CATALOGUE, Entry, route_of};
pub use certificates::CertificateWanted;
pub use event::{Event, EventError, MAX_EVENT_BYTES};
pub use incidents::{AlertRaised, IncidentOpened};
pub use keys::{KeyCompromised, KeyCreated, KeyringChanged, StandbyWanted};
pub use rotations::{
    BatchReady, RotationCompleted, RotationDue, RotationFailed, RotationRequested, StragglersWanted,
};
pub use route::{Exchange, Message, Queue, Route};
