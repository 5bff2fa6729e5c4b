//! Certificates: wanted signed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Message, Queue, Route};

/// A rotation completed, and its certificate wants its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateWanted {
    /// The rotation.
    pub rotation: Uuid,
}

impl Message for CertificateWanted {
    const TYPE: &'static str = "rekey.certificate.wanted.v1";
    const ROUTE: Route = Route::of_workers(Some(Queue::Rotator));
}
