//! Incidents and alerts: reported, shown, taken up and resolved.

pub(crate) mod compromise;
pub(crate) mod handling;
pub(crate) mod left;
pub(crate) mod needs;
pub(crate) mod views;
pub(crate) mod watch;
