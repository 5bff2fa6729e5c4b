//! What handles one type of message.

use std::sync::Arc;

use async_trait::async_trait;
use rekey_domain::RetryPolicy;
use rekey_messages::{Event, Message};
use rekey_store::{StoreError, Unit};

use crate::{Job, JobError};

/// Handles one type of message. Its effect commits in one unit, begun by [`Job::begin`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The message it handles.
    type Command: Message;
    /// Its name in the inbox and in logs; never changes.
    const NAME: &'static str;

    /// Handles one message. It may come again, and in any order: what counts is what the store says.
    ///
    /// # Errors
    /// The error carries the decision: retry, snooze or discard.
    async fn handle(&self, command: Self::Command, job: &Job) -> Result<(), JobError>;

    /// How often and how soon a failed attempt is made again.
    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::default()
    }

    /// The job is given up: say so in its row, in the unit that files the dead letter.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    async fn exhausted(
        &self,
        _command: Self::Command,
        _why: &str,
        _unit: &Unit,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A handler whose message type is behind it, so that a worker can hold several.
#[async_trait]
pub(crate) trait AnyHandler: Send + Sync {
    fn type_(&self) -> &'static str;
    fn name(&self) -> &'static str;
    fn retry_policy(&self) -> RetryPolicy;
    async fn handle(&self, job: &Job) -> Result<(), JobError>;
    async fn exhausted(&self, event: &Event, why: &str, unit: &Unit) -> Result<(), StoreError>;
}

pub(crate) struct Typed<H>(pub Arc<H>);

#[async_trait]
impl<H: Handler> AnyHandler for Typed<H> {
    fn type_(&self) -> &'static str {
        H::Command::TYPE
    }

    fn name(&self) -> &'static str {
        H::NAME
    }

    fn retry_policy(&self) -> RetryPolicy {
        self.0.retry_policy()
    }

    async fn handle(&self, job: &Job) -> Result<(), JobError> {
        let command = job
            .event
            .message()
            .map_err(|error| JobError::Discard(error.into()))?;
        self.0.handle(command, job).await
    }

    async fn exhausted(&self, event: &Event, why: &str, unit: &Unit) -> Result<(), StoreError> {
        match event.message() {
            Ok(command) => self.0.exhausted(command, why, unit).await,
            Err(_) => Ok(()),
        }
    }
}
