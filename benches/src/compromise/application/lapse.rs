//! Many applications in one process, each with a lease of its own, which encrypt until that has ended and a while longer.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use rekey_client::{Client, Keyset, LeaseError, LeaseGrant, Leases, Use};
use rekey_deployment::follow_and_report;
use rekey_domain::{ColumnSpec, KeyId, KeyringName, Principal, UsageBlock};
use rekey_operations::{Services, StoreLeases};
use serde::{Deserialize, Serialize};
use tokio::{sync::Barrier, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{super::clock::Moment, Told, keyring, say};

/// How often it encrypts while the end is far.
const PACE: Duration = Duration::from_millis(10);
/// So near to the end it encrypts without a pause.
const NEAR_MS: f64 = 15.0;
/// How long it goes on trying after the end.
const LONGER_MS: f64 = 500.0;
/// Renewals of the applications are spread over this.
const SPREAD: Duration = Duration::from_secs(1);

/// The end of one application's lease.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Lapse {
    /// When its last lease ended, counted from when it was asked for.
    pub ends: Moment,
    /// When it was given the key for the last time.
    pub last_given: Moment,
    /// How often it was given the key when it had asked after the end.
    pub given_late: u32,
}

/// A line names a keyring and says how many applications; answers once each has a key, and once all have none.
pub async fn run(
    services: &Services,
    transport: &Arc<dyn rekey_broker::Transport>,
    told: &mut Told,
) -> anyhow::Result<()> {
    say(&())?;
    let line = told.recv().await.context("a keyring")?;
    let (name, many) = line.split_once(' ').context("a keyring and a number")?;
    let (keyring, many) = (keyring(name)?, many.parse::<u32>()?);
    let have_one = Arc::new(Barrier::new(usize::try_from(many)? + 1));
    let mut applications = JoinSet::new();
    for number in 0..many {
        let leases = Arc::new(NotingLeases::over(services));
        let client = Client::new(leases.clone(), services.kms.clone());
        let (follower, transport) = (client.clone(), Arc::clone(transport));
        let following =
            async move { follow_and_report(follower, &*transport, CancellationToken::new()).await };
        tokio::spawn(following);
        let (keyring, have_one) = (keyring.clone(), Arc::clone(&have_one));
        applications.spawn(async move {
            tokio::time::sleep(SPREAD * number / many).await;
            lapse(&client, &leases, &keyring, &have_one).await
        });
    }
    have_one.wait().await;
    say(&())?;
    let lapses: Result<Vec<Lapse>, _> = applications.join_all().await.into_iter().collect();
    say(&lapses?)
}

async fn lapse(
    client: &Client,
    leases: &NotingLeases,
    keyring: &KeyringName,
    have_one: &Barrier,
) -> anyhow::Result<Lapse> {
    let first = client.encryption_key(keyring, 1).await?.id();
    let mut last_given = Moment::now();
    have_one.wait().await;
    let mut given_late = 0;
    loop {
        let asked = Moment::now();
        let given = client.encryption_key(keyring, 1).await;
        let now = Moment::now();
        let ends = leases.ends()?;
        if given.is_ok_and(|key| key.id() == first) {
            last_given = now;
            given_late += u32::from(asked >= ends);
        }
        let over_ms = now.ms_since(ends);
        if over_ms > LONGER_MS {
            return Ok(Lapse {
                ends,
                last_given,
                given_late,
            });
        }
        if over_ms.abs() < NEAR_MS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Leases from the store, and when the last one given ends.
struct NotingLeases {
    store: StoreLeases,
    ends: Mutex<Option<Moment>>,
}

impl NotingLeases {
    fn over(services: &Services) -> Self {
        Self {
            store: StoreLeases::new(services.store.clone(), Principal::app("bench")),
            ends: Mutex::default(),
        }
    }

    fn ends(&self) -> anyhow::Result<Moment> {
        let ends = *self.ends.lock().expect("no holder panics");
        ends.context("it was given a lease")
    }
}

#[async_trait]
impl Leases for NotingLeases {
    async fn column(&self, name: &str) -> Result<ColumnSpec, LeaseError> {
        self.store.column(name).await
    }

    async fn keyset(&self, keyring: &KeyringName) -> Result<Keyset, LeaseError> {
        self.store.keyset(keyring).await
    }

    async fn encrypt_lease(&self, keyring: &KeyringName) -> Result<LeaseGrant, LeaseError> {
        let asked = Moment::now();
        let grant = self.store.encrypt_lease(keyring).await?;
        *self.ends.lock().expect("no holder panics") = Some(asked.plus(grant.lasts));
        Ok(grant)
    }

    /// As many as it wants: the lease alone is to stop it.
    async fn usage_block(&self, _: KeyId, wanted: u64) -> Result<UsageBlock, LeaseError> {
        Ok(UsageBlock { size: wanted })
    }

    async fn report(&self, uses: &[Use]) -> Result<(), LeaseError> {
        self.store.report(uses).await
    }
}
