//! A delivery: one channel is told once of one thing that began or ended.

use strum::{Display, EnumString};

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown)]
pub enum About {
    /// An incident.
    Incident,
    /// An alert.
    Alert,
    /// All that did not go by itself.
    Digest,
    /// Nothing: a person wants to see whether it arrives.
    Test,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown)]
pub enum Occurrence {
    /// It was opened or raised.
    Began,
    /// It was resolved, or cleared.
    Ended,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = unknown)]
pub enum DeliveryState {
    /// It is to be made.
    Due,
    /// The receiver took it.
    Sent,
    /// It went along in a digest.
    Digested,
    /// What it was about had ended before anybody was told.
    Moot,
    /// It was given up.
    Dead,
}

fn unknown(text: &str) -> String {
    format!("{text:?} is no word of a delivery that this program knows")
}
