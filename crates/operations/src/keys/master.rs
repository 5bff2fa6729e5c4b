//! Replacing the master key: a new one wraps from now on, and every stored key is wrapped anew under it.

mod lost;
mod passphrase;
mod rewrap;
mod view;

use std::time::Duration;

use rekey_domain::Principal;
use rekey_runtime::leased::{self, Ended};
use rekey_store::{
    StoreError,
    audit::{self, Record},
    keys,
};
use serde::Serialize;
use serde_json::json;

use crate::{Action, OperationError, Services, authorise};
pub use lost::refuse_lost;
pub(crate) use lost::unopened;
pub use passphrase::change_passphrase;
pub use rewrap::NotRewrapped;
use rewrap::Rewrapping;
pub use view::{KeysUnder, MasterView, master_view};

/// What a rotation of the master key begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartWith {
    /// A new master key, unless keys are still under an earlier one: then an earlier rotation was cut
    /// short, and this one goes on with it.
    WhatIsLeft,
    /// The present master key in any case: what is under an earlier one is wrapped anew under it.
    PresentMasterKey,
    /// A new master key in any case.
    NewMasterKey,
}

/// One process at a time replaces the master key.
const LEASE: &str = "master-key";
/// Whoever waits for another asks again.
const ASKED_AGAIN: Duration = Duration::from_millis(500);

/// What a rotation of the master key did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MasterRotation {
    /// The master key that wraps now.
    pub master_key: String,
    /// It was made by this rotation; else an earlier one was gone on with.
    pub made: bool,
    /// Keys that were wrapped anew.
    pub rewrapped: u64,
    /// Keys that were not, and stay as they were.
    pub failed: Vec<NotRewrapped>,
}

/// Makes a new master key and wraps every stored key anew under it, one unit a key.
///
/// Every key unwraps at any moment: new wrapped material was unwrapped and compared with the check value before it
/// replaces the old, and earlier master keys stay in the KMS. If cut short, calling it again goes on. A key that cannot
/// be wrapped anew does not keep others from it.
///
/// # Errors
/// [`OperationError`]; what was wrapped anew stays so.
pub async fn rotate_master(
    services: &Services,
    start: StartWith,
    principal: &Principal,
) -> Result<MasterRotation, OperationError> {
    authorise(principal, Action::RotateMaster)?;
    alone(services, || async {
        let begun = Begun::with(services, start, principal).await?;
        begun.finish(principal).await
    })
    .await
}

/// Does what replaces the master key, once nobody else does: two at once would make two, and leave keys under the first.
///
/// # Errors
/// What `work` answers; [`OperationError::Store`] where this process lost its turn, as after a long stop.
pub(crate) async fn alone<T, F>(
    services: &Services,
    work: impl Fn() -> F,
) -> Result<T, OperationError>
where
    F: Future<Output = Result<T, OperationError>>,
{
    loop {
        let name = (&services.store, services.holder.as_str());
        let done = leased::run(name, LEASE, |_| async { work().await.map(Ended::Held) });
        if let Some(done) = done.await? {
            return Ok(done);
        }
        tracing::info!("another process replaces the master key, and is waited for");
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

/// A rotation of the master key that has begun: keys that are made from now on are under the new one.
pub(crate) struct Begun<'a> {
    services: &'a Services,
    rewrapping: Rewrapping<'a>,
    target: String,
    made: bool,
}

impl<'a> Begun<'a> {
    /// Begins it.
    ///
    /// # Errors
    /// [`OperationError`] of the KMS or the store.
    pub(crate) async fn with(
        services: &'a Services,
        start: StartWith,
        principal: &Principal,
    ) -> Result<Self, OperationError> {
        let mut rewrapping = Rewrapping::load(services).await?;
        // Older programs did not store the master key of their keys. It is asked for first, or those keys would look
        // moved.
        rewrapping.learn_master_keys().await?;
        let (target, made) = begin(services, start, principal).await?;
        Ok(Self {
            services,
            rewrapping,
            target,
            made,
        })
    }

    /// Wraps every key anew.
    ///
    /// # Errors
    /// [`OperationError`]; what was wrapped anew stays so.
    pub(crate) async fn finish(
        mut self,
        principal: &Principal,
    ) -> Result<MasterRotation, OperationError> {
        let made = self.made;
        tracing::info!(master_key = %self.target, made, "keys are wrapped anew");
        let ended = self.rewrapping.all_under(&self.target).await;
        let (rewrapped, failed) = self.rewrapping.counts();
        let rotation = MasterRotation {
            master_key: self.target,
            made,
            rewrapped,
            failed,
        };
        let recorded = record_end(self.services, &rotation, ended.is_ok(), principal).await;
        // The reason why it was cut short matters more than a failure to write that down.
        ended.and(recorded)?;
        Ok(rotation)
    }
}

/// Decides which master key all keys shall be under, and makes it where it is a new one.
async fn begin(
    services: &Services,
    start: StartWith,
    principal: &Principal,
) -> Result<(String, bool), OperationError> {
    let current = services.kms.describe().await?.id;
    let make = match start {
        StartWith::NewMasterKey => true,
        StartWith::PresentMasterKey => false,
        StartWith::WhatIsLeft => !is_cut_short(services, &current).await?,
    };
    let started = Record {
        action: audit::Action::MasterKeyRotationStarted,
        subject: &current,
        outcome: "done",
        details: json!({ "new_master_key": make }),
    };
    append(services, started, principal).await?;
    if !make {
        return Ok((current, false));
    }
    let new = services.kms.new_master_key().await?;
    let created = Record {
        action: audit::Action::MasterKeyCreated,
        subject: &new.id,
        outcome: "done",
        details: json!({ "before": current, "provider": new.provider }),
    };
    append(services, created, principal).await?;
    Ok((new.id, true))
}

/// Whether a key is known to be under another master key than the current one.
async fn is_cut_short(services: &Services, current: &str) -> Result<bool, OperationError> {
    let keys = keys::wrapped(services.store.db()).await?;
    let mut known = keys.iter().filter_map(|key| key.master_key.as_deref());
    Ok(known.any(|master_key| master_key != current))
}

async fn record_end(
    services: &Services,
    rotation: &MasterRotation,
    is_whole: bool,
    principal: &Principal,
) -> Result<(), OperationError> {
    let ended = Record {
        action: audit::Action::MasterKeyRotated,
        subject: &rotation.master_key,
        outcome: match is_whole {
            false => "cut short",
            true if rotation.failed.is_empty() => "done",
            true => "in part",
        },
        details: json!({ "rewrapped": rotation.rewrapped, "failed": rotation.failed }),
    };
    append(services, ended, principal).await
}

async fn append(
    services: &Services,
    record: Record<'_>,
    principal: &Principal,
) -> Result<(), OperationError> {
    sealed_anew(services, async || {
        let pen = services.pen(principal).await?;
        let unit = services.store.begin().await?;
        pen.append(&unit, record.clone()).await?;
        Ok(unit.commit().await?)
    })
    .await
}

/// Does it once more where something changed meanwhile, as when the key of the audit log was replaced.
pub(crate) async fn sealed_anew<T>(
    services: &Services,
    write: impl AsyncFn() -> Result<T, OperationError>,
) -> Result<T, OperationError> {
    match write().await {
        Err(OperationError::Store(StoreError::Stale { .. })) => {
            services.client.any_keyring_changed();
            write().await
        }
        done => done,
    }
}
