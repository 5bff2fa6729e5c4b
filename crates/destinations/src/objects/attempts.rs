//! How often something is tried at a service, and how long is waited between.

use std::time::Duration;

use crate::DestinationError;

/// Attempts at one call; beyond them our workers retry, visibly.
const ATTEMPTS: u32 = 3;
/// Before the second attempt; twice as long before the third.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How often something was tried.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Waits before the next, if there is one and it may help.
    pub(super) async fn after(&mut self, failed: DestinationError) -> Result<(), DestinationError> {
        self.0 += 1;
        if self.0 == ATTEMPTS || !failed.is_retryable() {
            return Err(failed);
        }
        tokio::time::sleep(FIRST_PAUSE * self.0).await;
        Ok(())
    }
}
