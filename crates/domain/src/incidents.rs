//! Incidents and alerts: what people are told, and what a compromised key leads to.

pub(crate) mod alert;
pub(crate) mod compromise;
pub(crate) mod expiring;
pub(crate) mod incident;
