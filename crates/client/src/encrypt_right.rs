//! The right to encrypt with a keyring's primary key, renewed while it is used (rule 8).

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use rekey_domain::{EncryptLease, KeyId, KeyringName};
use tokio::time::timeout;

use crate::{ClientError, LeaseError, LeaseGrant, Leases, locked::locked, monotonic::Monotonic};

/// A lease that was asked for longer ago is renewed before it is used.
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// How long an answer that came late is used.
const SHARED: Duration = Duration::from_millis(100);
/// How long a renewal is waited for while the lease held would do.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers overtaken by a change of the keyring before the call is given up.
const ATTEMPTS: usize = 5;

/// One keyring's encrypt lease.
pub(crate) struct EncryptRight {
    keyring: KeyringName,
    time: Monotonic,
    /// One renewal at a time: whoever waits finds a fresh lease.
    renewing: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The last lease, even if it ended.
    lease: Option<EncryptLease>,
    renew_at: Option<Instant>,
    /// Counts how often the lease was ended, so that an answer that was requested before an end is not used.
    endings: u64,
}

impl Held {
    fn covering(&self, now: Instant) -> Option<EncryptLease> {
        self.lease.filter(|lease| lease.covers(now))
    }

    fn fresh(&self, now: Instant) -> Option<EncryptLease> {
        self.covering(now)
            .filter(|_| self.renew_at.is_some_and(|at| now < at))
    }
}

/// Asking again helps once a person has looked; until then nothing is encrypted, whatever lease is held.
fn ends_at_once(error: &LeaseError) -> bool {
    matches!(error, LeaseError::Suspended { .. })
}

impl EncryptRight {
    /// No right yet.
    pub(crate) fn new(keyring: KeyringName, time: Monotonic) -> Self {
        Self {
            keyring,
            time,
            renewing: tokio::sync::Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Ends the lease at once.
    pub(crate) fn end(&self) {
        let mut held = locked(&self.held);
        held.endings += 1;
        held.lease = None;
    }

    /// Whether an encryption under `key` may start now.
    pub(crate) fn covers(&self, key: KeyId) -> bool {
        let lease = locked(&self.held).covering(self.time.now());
        lease.is_some_and(|lease| lease.key == key)
    }

    /// The key that may encrypt now: by the lease held while it is fresh, else by a renewed one.
    ///
    /// # Errors
    /// [`ClientError::LeaseEnded`] or [`ClientError::Lease`] when nothing may be encrypted.
    pub(crate) async fn key(&self, leases: &dyn Leases) -> Result<KeyId, ClientError> {
        if let Some(lease) = self.fresh() {
            return Ok(lease.key);
        }
        let _turn = self.renewing.lock().await;
        for _ in 0..ATTEMPTS {
            if let Some(lease) = self.fresh() {
                return Ok(lease.key);
            }
            let endings = locked(&self.held).endings;
            let asked = self.time.now();
            match self.ask(leases, asked).await {
                Ok(grant) => {
                    if let Some(key) = self.accept(grant, asked, endings)? {
                        return Ok(key);
                    }
                }
                Err(error) if error.is_retryable() && !ends_at_once(&error) => {
                    return self.go_on(error);
                }
                Err(error) => {
                    locked(&self.held).lease = None;
                    return Err(error.into());
                }
            }
        }
        Err(LeaseError::keeps_changing(&self.keyring).into())
    }

    fn fresh(&self) -> Option<EncryptLease> {
        locked(&self.held).fresh(self.time.now())
    }

    /// Asks for a lease; waits only briefly if the present one would do.
    async fn ask(&self, leases: &dyn Leases, asked: Instant) -> Result<LeaseGrant, LeaseError> {
        let request = leases.encrypt_lease(&self.keyring);
        if locked(&self.held).covering(asked).is_none() {
            return request.await;
        }
        timeout(PATIENCE, request).await.unwrap_or_else(|_| {
            Err(LeaseError::OutOfReach {
                reason: format!("no encrypt lease within {PATIENCE:?}"),
            })
        })
    }

    /// Keeps what was granted, unless the lease was ended meanwhile: then it must be asked again.
    fn accept(
        &self,
        grant: LeaseGrant,
        asked: Instant,
        endings: u64,
    ) -> Result<Option<KeyId>, ClientError> {
        let now = self.time.now();
        let lease = EncryptLease::granted(grant.key, asked, grant.lasts.min(EncryptLease::LONGEST));
        let mut held = locked(&self.held);
        if held.endings != endings {
            return Ok(None);
        }
        held.lease = Some(lease);
        // However late the answer came, those who waited for it share it.
        held.renew_at = Some((asked + RENEW_AFTER).max(now + SHARED));
        if lease.covers(now) {
            return Ok(Some(lease.key));
        }
        Err(self.ended())
    }

    /// Goes on with the lease held while it lasts, and asks again after a while.
    fn go_on(&self, error: LeaseError) -> Result<KeyId, ClientError> {
        let now = self.time.now();
        let mut held = locked(&self.held);
        if let Some(lease) = held.covering(now) {
            tracing::warn!(keyring = %self.keyring, %error, "an encrypt lease was not renewed; going on with the last");
            held.renew_at = Some(now + RENEW_AFTER);
            return Ok(lease.key);
        }
        if held.lease.is_none() {
            return Err(error.into());
        }
        tracing::error!(keyring = %self.keyring, %error, "an encrypt lease ended; nothing is encrypted");
        Err(self.ended())
    }

    fn ended(&self) -> ClientError {
        ClientError::LeaseEnded {
            keyring: self.keyring.clone(),
        }
    }
}
