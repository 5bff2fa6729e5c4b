//! The monotonic time that leases and ages are counted in, as an argument (rule 9).

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// Where the time comes from.
#[derive(Clone)]
pub(crate) struct Monotonic(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Monotonic {
    /// The operating system's. It goes on while the machine sleeps: what ended meanwhile has ended.
    pub(crate) fn system() -> Self {
        static START: OnceLock<(Instant, Duration)> = OnceLock::new();
        let (start, boot) = *START.get_or_init(|| (Instant::now(), since_boot()));
        Self(Arc::new(move || start + since_boot().saturating_sub(boot)))
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

/// An [`Instant`] of Linux stands still while the machine is suspended; this does not.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
    time.expect("Linux has this clock since 2.6.39").into()
}

/// Elsewhere there is nothing better.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_with_the_time_since_the_machine_started() {
        let time = Monotonic::system();
        let (boot, before) = (since_boot(), time.now());
        while since_boot() < boot + Duration::from_millis(5) {
            std::thread::yield_now();
        }
        assert!(time.now() - before >= Duration::from_millis(4));
        let other = Monotonic::system();
        assert!(
            other.now() - time.now() < Duration::from_secs(1),
            "one start"
        );
    }
}
