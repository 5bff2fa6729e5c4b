//! Work under a lease: one process at a time does it, and the lease is renewed while it runs.

use std::time::Duration;

use rekey_store::{
    Store, StoreError, leases,
    leases::{JOB_LEASE, Lease},
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::Instrument;

/// Thrice within a lease: one renewal that fails loses nothing.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);

/// What became of the lease of work that ended well.
#[derive(Debug)]
pub enum Ended<T> {
    /// The unit of its effect gave it back.
    GivenBack(T),
    /// It is held still.
    Held(T),
}

/// Runs `work` under the lease `name`; none where another process is at it. The lease is renewed meanwhile, and
/// given back at the end, unless the work did that. When it is lost, the work is dropped where it waits: what it still
/// wrote would be refused.
///
/// # Errors
/// [`StoreError::Fenced`] when the lease was lost; otherwise what `work` answers.
pub async fn run<T, E, F>(
    (store, holder): (&Store, &str),
    name: &str,
    work: impl FnOnce(Lease) -> F,
) -> Result<Option<T>, E>
where
    E: From<StoreError>,
    F: Future<Output = Result<Ended<T>, E>>,
{
    let Some(lease) = take(store, name, holder).await? else {
        return Ok(None);
    };
    let span = tracing::info_span!("leased", lease = name);
    let done = renewed(store, &lease, work(lease.clone()))
        .instrument(span)
        .await;
    match done {
        Ok(Ended::GivenBack(done)) => Ok(Some(done)),
        Ok(Ended::Held(done)) => {
            give_back(store, &lease).await;
            Ok(Some(done))
        }
        Err(error) => {
            give_back(store, &lease).await;
            Err(error)
        }
    }
}

/// Takes the lease `name`, if nobody holds it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn take(store: &Store, name: &str, holder: &str) -> Result<Option<Lease>, StoreError> {
    let unit = store.begin_forgettable().await?;
    let lease = leases::acquire(&unit, name, holder, JOB_LEASE).await?;
    unit.commit().await?;
    Ok(lease)
}

/// Runs `work` and renews the lease meanwhile.
async fn renewed<T, E: From<StoreError>>(
    store: &Store,
    lease: &Lease,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let renewals = async {
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match renew(store, lease).await {
                Err(error @ StoreError::Fenced { .. }) => return error,
                Err(error) => {
                    tracing::warn!(lease = lease.name, %error, "the lease could not be renewed")
                }
                Ok(()) => {}
            }
        }
    };
    tokio::select! {
        result = work => result,
        fenced = renewals => Err(fenced.into()),
    }
}

async fn renew(store: &Store, lease: &Lease) -> Result<(), StoreError> {
    let unit = store.begin_forgettable().await?;
    leases::hold(&unit, lease, JOB_LEASE).await?;
    unit.commit().await
}

/// Gives a lease back, so that whoever is next need not wait for its end.
pub async fn give_back(store: &Store, lease: &Lease) {
    let released = async {
        let unit = store.begin_forgettable().await?;
        leases::release(&unit, lease).await?;
        unit.commit().await
    };
    if let Err(error) = released.await {
        tracing::debug!(lease = lease.name, %error, "the lease ends by itself");
    }
}
