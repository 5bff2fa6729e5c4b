//! Whether one of the two connections works, and keeping it up.

use std::time::Duration;

use tokio::sync::watch;

use crate::BrokerError;

/// Delays between attempts to connect; with the time an attempt may take, a broker that is back is found within 10 s.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// A session that lasted so long was well; the next attempt is made at once.
const LASTED: Duration = Duration::from_secs(10);

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Health {
    what: &'static str,
    state: watch::Sender<Result<(), String>>,
}

impl Health {
    pub(super) fn new(what: &'static str) -> Self {
        let state = watch::Sender::new(Err("not connected to RabbitMQ yet".to_owned()));
        Self { what, state }
    }

    /// What holds now.
    pub(super) fn now(&self) -> Result<(), String> {
        self.state.borrow().clone()
    }

    /// Waits until all is well.
    pub(super) async fn well(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(Result::is_ok).await;
    }

    /// All is well from now on.
    pub(super) fn is_well(&self) {
        if self.state.send_replace(Ok(())).is_err() {
            tracing::info!(what = self.what, "RabbitMQ carries messages");
        }
    }

    /// Something is wrong from now on. The same again is not logged again.
    pub(super) fn is_ill(&self, error: &BrokerError) {
        let error = error.to_string();
        if self.state.send_replace(Err(error.clone())) != Err(error.clone()) {
            tracing::warn!(what = self.what, error, "RabbitMQ does not carry messages");
        }
    }

    /// Runs sessions, one after the other, until one ends without an error.
    pub(super) async fn kept_up<S>(&self, session: impl Fn() -> S)
    where
        S: Future<Output = Result<(), BrokerError>>,
    {
        let mut failures = 0;
        loop {
            let began = tokio::time::Instant::now();
            let Err(error) = session().await else { return };
            self.is_ill(&error);
            failures = if began.elapsed() > LASTED {
                0
            } else {
                failures + 1
            };
            tokio::time::sleep(delay(failures, rand::random())).await;
        }
    }
}

/// Doubles up to a cap; `chance` takes up to half of it away, so that processes do not come all at once.
fn delay(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << failures.min(16));
    doubled.min(LONGEST_DELAY).mul_f64(1.0 - chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_under_the_cap_however_long_it_takes() {
        assert!(delay(0, 1.0) >= FIRST_DELAY / 2);
        assert!(delay(3, 0.0) > delay(1, 0.0));
        for failures in [5, 100, u32::MAX] {
            assert_eq!(delay(failures, 0.0), LONGEST_DELAY);
        }
    }
}
