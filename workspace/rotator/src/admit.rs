//! The queue `requests`: what people and systems outside publish is admitted or refused.
//!
//! Not a [`rekey_runtime::Worker`]: what it makes a dead letter is here refused and audited. A request that waits is
//! held while others go on, and of a flood of one user all but its share is turned away unread.

mod flood;

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use rekey_broker::{Delivery, Settlement, Transport};
use rekey_messages::Queue;
use rekey_operations::{Admission, OperationError, REQUESTS_HELD, Requester, Services, admit};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::flood::Flood;

/// How long to leave a transport alone that does not answer.
const RETREAT: Duration = Duration::from_millis(500);
/// How long requests may take to end after shutdown was asked for; what did not comes again.
const DRAIN: Duration = Duration::from_secs(5);
/// So many are looked at together.
const TOGETHER: usize = 4;
/// A request that waits is looked at again after this, then after twice that, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So often what was turned away since is written down.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Takes requests until `shutdown`.
pub async fn run(
    services: &Services,
    transport: &dyn Transport,
    requesters: &[Requester],
    shutdown: &CancellationToken,
) {
    let desk = Desk {
        services,
        transport,
        requesters,
        shutdown,
        turns: Semaphore::new(TOGETHER),
    };
    let mut flood = Flood::new(requesters);
    let mut taken = FuturesUnordered::new();
    let mut tell = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = tell.tick() => flood.tell(services).await,
            Some(()) = taken.next() => {}
            received = desk.receive(), if taken.len() < usize::from(REQUESTS_HELD) => {
                let Some(delivery) = received else { continue };
                if flood.is_within(services, delivery.user_id.as_deref()).await {
                    taken.push(desk.take(delivery).boxed());
                } else {
                    taken.push(desk.settle(delivery).boxed());
                }
            }
        }
    }
    let ending = async { while taken.next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, ending).await;
    flood.tell(services).await;
}

/// Where requests are looked at.
struct Desk<'a> {
    services: &'a Services,
    transport: &'a dyn Transport,
    requesters: &'a [Requester],
    shutdown: &'a CancellationToken,
    turns: Semaphore,
}

impl Desk<'_> {
    async fn receive(&self) -> Option<Delivery> {
        match self.transport.receive(&[Queue::Requests]).await {
            Ok(delivery) => Some(delivery),
            Err(error) => {
                tracing::warn!(%error, "no requests from outside");
                tokio::time::sleep(RETREAT).await;
                None
            }
        }
    }

    /// Looks at a request until it has an answer. One that has none at shutdown is not settled, and comes again.
    async fn take(&self, delivery: Delivery) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.look_at(&delivery).await {
                Ok(Admission::Admitted(event)) => {
                    tracing::info!(event, "request from outside admitted");
                    return self.settle(delivery).await;
                }
                Ok(Admission::Refused(reason)) => {
                    tracing::warn!(reason, "request from outside refused");
                    return self.settle(delivery).await;
                }
                Err(error) => tracing::warn!(%error, "a request from outside waits"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn look_at(&self, delivery: &Delivery) -> Result<Admission, OperationError> {
        let turn = self.turns.acquire().await;
        let _turn = turn.expect("nobody closes it");
        let user = delivery.user_id.as_deref();
        admit(
            self.services,
            self.requesters,
            user,
            delivery.body.as_bytes(),
        )
        .await
    }

    async fn settle(&self, delivery: Delivery) {
        let settled = self.transport.settle(delivery.receipt, Settlement::Done);
        if let Err(error) = settled.await {
            tracing::warn!(%error, "not settled; the request comes again");
        }
    }
}
