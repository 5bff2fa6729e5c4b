//! Incidents and alerts: facts, for whoever listens. They hold ids and no words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Message, Route};

/// An incident was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentOpened {
    /// The incident: `rekey incidents show`.
    pub incident: Uuid,
    /// What happened: `COMPROMISED`.
    pub kind: String,
}

impl Message for IncidentOpened {
    const TYPE: &'static str = "rekey.incident.opened.v1";
    const ROUTE: Route = Route::of_workers(None);
}

/// An alert was raised; it clears by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRaised {
    /// The alert: `rekey alerts show`.
    pub alert: Uuid,
    /// What state it is: `ROTATION_FAILED`.
    pub kind: String,
}

impl Message for AlertRaised {
    const TYPE: &'static str = "rekey.alert.raised.v1";
    const ROUTE: Route = Route::of_workers(None);
}
