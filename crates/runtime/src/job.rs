//! One delivery as its handler sees it, and the error that carries the decision.

use std::{error::Error, time::Duration};

use rekey_messages::Event;
use rekey_store::{Store, StoreError, Unit, inbox};

/// What is away is looked for again after this.
const OUTAGE: Duration = Duration::from_secs(5);

/// Why a handler did not take effect, and what is to be done.
#[derive(Debug)]
pub enum JobError {
    /// Try again later; counts as an attempt.
    Retry(Box<dyn Error + Send + Sync>),
    /// Not yet; costs no attempt.
    Snooze(Duration),
    /// Trying again cannot help: dead letter.
    Discard(Box<dyn Error + Send + Sync>),
}

impl JobError {
    /// Decides by what the error says of itself.
    pub fn from_retryable(retryable: bool, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        if retryable {
            Self::Retry(error.into())
        } else {
            Self::Discard(error.into())
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            // Another process holds the work now; by the next attempt it has ended or let go.
            StoreError::Fenced { .. } => Self::Retry(error.into()),
            // It will be back, however long that takes, and says nothing of the work.
            StoreError::OutOfReach(_) | StoreError::DiskFull => {
                tracing::warn!(%error, "a message waits for the store");
                Self::Snooze(OUTAGE)
            }
            error => Self::from_retryable(error.is_retryable(), error),
        }
    }
}

/// A delivery being handled.
#[derive(Clone)]
pub struct Job {
    pub(crate) event: Event,
    pub(crate) handler: &'static str,
    pub(crate) store: Store,
}

impl Job {
    /// The event that is handled.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Begins the unit of the handler's effect. `None`: this attempt took effect before, there is
    /// nothing left to do.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub async fn begin(&self) -> Result<Option<Unit>, StoreError> {
        let unit = self.store.begin().await?;
        let first = inbox::first_sight(&unit, &self.event, self.handler).await?;
        Ok(first.then_some(unit))
    }
}
