//! Deliveries: what a channel is told, each once, kept while anybody may ask.

mod delivery;
mod due;
mod kept;
mod later;
mod outcome;
mod planned;
mod untold;

pub use self::{
    delivery::{Delivery, NewDelivery},
    due::{Line, digest, digested, due, last_minute, waiting},
    kept::{about, prune},
    later::{are_overtaken, drop_overtaken},
    outcome::{
        begin_attempts, drop_moot, given_up_since, has_given_up, note_failure, note_sent,
        presses_for, revive,
    },
    planned::{plan, plan_moot},
    untold::{ended, open_digests, untold_alerts, untold_incidents},
};
