//! The RECOVERY key: made here, its private half leaves as shares only, and the store keeps the public one.

use rekey_backups::{Fingerprint, RecoveryKey, RecoveryPublicKey, Share, ShareError};
use rekey_domain::Principal;
use rekey_store::{
    audit,
    backups::recovery_keys::{self, NewRecoveryKey},
};
use serde_json::json;

use crate::{Action, OperationError, Services, access::audited::Audited, authorise};

/// A RECOVERY key whose shares were not handed out yet. Dropped, it never was.
pub struct SplitRecoveryKey {
    public: RecoveryPublicKey,
    shares: Vec<Share>,
}

impl SplitRecoveryKey {
    /// What it is called by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// Its shares, each for one holder.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}

/// Makes a RECOVERY key and splits it, so that `threshold` of `shares` shares make it again.
///
/// # Errors
/// [`OperationError::Refused`] for numbers that make no set, and where there is a RECOVERY key already that is not to
/// be `replaced`.
pub async fn split_recovery_key(
    services: &Services,
    (threshold, shares): (u8, u8),
    replaces: bool,
    principal: &Principal,
) -> Result<SplitRecoveryKey, OperationError> {
    authorise(principal, Action::SplitRecoveryKey)?;
    let known = recovery_keys::all(services.store.db()).await?;
    if let Some(key) = known.first().filter(|_| !replaces) {
        return Err(OperationError::Refused(format!(
            "there is RECOVERY key {} of {}; with --replace bundles are sealed to a new one from then on, and its shares open those that are made by then",
            key.fingerprint,
            key.made_at.format("%Y-%m-%d")
        )));
    }
    let key = RecoveryKey::generate();
    let split = key.split(threshold, shares, 0);
    let split = split.map_err(|error: ShareError| OperationError::Refused(error.to_string()))?;
    Ok(SplitRecoveryKey {
        public: key.public_key(),
        shares: split,
    })
}

/// Keeps the public half, once every share is safe.
///
/// # Errors
/// [`OperationError`]; then the shares are worth nothing, and another key is to be made.
pub async fn keep_recovery_key(
    services: &Services,
    split: &SplitRecoveryKey,
    principal: &Principal,
) -> Result<(), OperationError> {
    let audited = Audited::begin(services, principal, Action::SplitRecoveryKey).await?;
    let first = split.shares.first();
    let first = first.expect("a set has at least two shares");
    let (set, threshold, shares) = (first.set(), first.threshold(), first.shares());
    let fingerprint = split.fingerprint().to_string();
    let new = NewRecoveryKey {
        fingerprint: fingerprint.clone(),
        public_key: split.public.as_bytes().to_vec(),
        share_set: set,
        threshold,
        shares,
        made_by: principal,
    };
    recovery_keys::add(&audited.unit, new).await?;
    let details = json!({ "set": set, "threshold": threshold, "shares": shares });
    audited
        .commit(audit::Action::RecoveryKeySplit, &fingerprint, details)
        .await
}
