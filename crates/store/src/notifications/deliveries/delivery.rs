//! A delivery: what a channel is told, once.

use chrono::{DateTime, Utc};
use rekey_domain::{About, Answers, ChannelName, DeliveryState, Occurrence};
use uuid::Uuid;

use crate::{database::stored::Json, notifications::entities::delivery};

/// What a channel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same for all attempts.
    pub id: Uuid,
    /// The channel.
    pub channel: ChannelName,
    /// What it is about.
    pub about: About,
    /// Which one.
    pub subject: Uuid,
    /// What became of that.
    pub event: Occurrence,
    /// When it began, as the same alert may be raised again.
    pub occasion: DateTime<Utc>,
    /// Whether it goes at once, by itself.
    pub presses: bool,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first was made, in milliseconds of the database's time.
    pub first_attempt_at: Option<i64>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// What the addresses of a mail answered so far.
    pub answers: Answers,
}

impl Delivery {
    /// What is told in order with it: all of one incident or alert, and all digests, as a channel has one of them.
    pub fn thread(&self) -> Option<Uuid> {
        (self.about != About::Digest).then_some(self.subject)
    }
}

impl From<delivery::Model> for Delivery {
    fn from(row: delivery::Model) -> Self {
        Self {
            id: row.id,
            channel: row.channel.0,
            about: row.about.0,
            subject: row.subject_id,
            event: row.event.0,
            occasion: row.occasion,
            presses: row.presses,
            state: row.state.0,
            attempts: row.attempts.unsigned_abs(),
            first_attempt_at: row.first_attempt_at,
            failure: row.failure,
            answers: row.answers.map_or_else(Answers::default, |Json(said)| said),
        }
    }
}

/// A delivery to make.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// What it is about.
    pub about: About,
    /// Which one.
    pub subject: Uuid,
    /// What became of that.
    pub event: Occurrence,
    /// When it began.
    pub occasion: DateTime<Utc>,
    /// Whether it goes at once, by itself.
    pub presses: bool,
}

pub(super) fn parsed(rows: Vec<delivery::Model>) -> Vec<Delivery> {
    rows.into_iter().map(Delivery::from).collect()
}
