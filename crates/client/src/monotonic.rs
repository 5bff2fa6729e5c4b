//! The monotonic time that leases and ages are counted in, as an argument (rule 9).

use std::{sync::Arc, time::Instant};

/// Where the time comes from.
#[derive(Clone)]
pub(crate) struct Monotonic(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Monotonic {
    /// The operating system's.
    pub(crate) fn system() -> Self {
        Self(Arc::new(Instant::now))
    }

    /// What `read` says.
    #[cfg(test)]
    pub(crate) fn reading(read: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time now.
    pub(crate) fn now(&self) -> Instant {
        (self.0)()
    }
}
