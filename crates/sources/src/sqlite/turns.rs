//! Whose turn it is to write: one transaction of ours at a time, then as long a pause.
//!
//! SQLite has one write lock and no queue for it: who waits looks again every few milliseconds, up
//! to 100. Transactions back to back would leave the application no moment to find it free.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// The longest pause; a transaction that took longer had to wait itself.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The turns of all writers of a source.
pub(super) struct Turns(Mutex<Instant>);

/// One writer's turn.
pub(super) struct Turn<'a> {
    free_from: MutexGuard<'a, Instant>,
    started: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Turns {
    /// Waits for a turn, and for the pause after the one before.
    pub(super) async fn take(&self) -> Turn<'_> {
        let free_from = self.0.lock().await;
        tokio::time::sleep_until(*free_from).await;
        Turn {
            free_from,
            started: Instant::now(),
        }
    }
}

impl Turn<'_> {
    /// Says that the write lock is held from now on: the pause is as long as that time.
    pub(super) fn locked(&mut self) {
        self.started = Instant::now();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let pause = self.started.elapsed().min(LONGEST_PAUSE);
        *self.free_from = Instant::now() + pause;
    }
}
