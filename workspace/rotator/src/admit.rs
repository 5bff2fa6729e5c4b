//! The queues `requests` and `reports`: what people and systems outside publish is admitted or refused.
//!
//! A report of a compromised key comes from both, and acts once. In `reports` nobody's requests stand before it, and a
//! user who sends too many requests still has that user's share of reports.
//!
//! It is not a [`rekey_runtime::Consumer`]: what would become a dead letter there is refused and audited here. A
//! waiting request is held while others go on, and if one user floods the queue, all but that user's share is turned
//! away unread.

mod flood;

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use rekey_broker::{Delivery, Settlement, Transport};
use rekey_messages::Queue;
use rekey_operations::{
    Admission, OperationError, REQUESTS_HELD, Requester, Services, admit, turned_away,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::flood::{Flood, Untold};

/// How long to leave a transport alone that does not answer.
const RETREAT: Duration = Duration::from_millis(500);
/// How long requests may take to end after shutdown was asked for; what did not comes again.
const DRAIN: Duration = Duration::from_secs(5);
/// So many are looked at together.
const TOGETHER: usize = 4;
/// A request that waits is looked at again after this, then after twice that, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often requests that were turned away since are written down.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Takes requests of this queue until `shutdown`.
pub async fn run(
    queue: Queue,
    services: &Services,
    transport: &dyn Transport,
    requesters: &[Requester],
    shutdown: &CancellationToken,
) {
    let desk = Desk {
        queue,
        services,
        transport,
        requesters,
        shutdown,
        turns: Semaphore::new(TOGETHER),
    };
    let mut flood = Flood::new(requesters);
    // All waits are in here, and nothing is awaited outside, as one request may hold what another needs.
    let mut taken = FuturesUnordered::new();
    let mut tell = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = tell.tick() => {
                let untold = flood.untold();
                taken.extend(untold.into_iter().map(|one| desk.tell(one).boxed()));
            }
            Some(()) = taken.next() => {}
            received = desk.receive(), if taken.len() < usize::from(REQUESTS_HELD) => {
                let Some(delivery) = received else { continue };
                match flood.turn_away(delivery.user_id.as_deref()) {
                    None => taken.push(desk.take(delivery).boxed()),
                    Some(to_tell) => {
                        taken.push(desk.settle(delivery).boxed());
                        taken.extend(to_tell.map(|one| desk.tell(one).boxed()));
                    }
                }
            }
        }
    }
    let untold = flood.untold();
    taken.extend(untold.into_iter().map(|one| desk.tell(one).boxed()));
    let ending = async { while taken.next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, ending).await;
}

/// Where requests are looked at.
struct Desk<'a> {
    queue: Queue,
    services: &'a Services,
    transport: &'a dyn Transport,
    requesters: &'a [Requester],
    shutdown: &'a CancellationToken,
    turns: Semaphore,
}

impl Desk<'_> {
    async fn receive(&self) -> Option<Delivery> {
        match self.transport.receive(&[self.queue]).await {
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
            if self.shutdown.is_cancelled() || !self.waited(&mut wait).await {
                return;
            }
        }
    }

    /// Writes down that requests were turned away; if that fails, tries once more at shutdown.
    async fn tell(&self, untold: Untold) {
        let mut wait = FIRST_WAIT;
        loop {
            let Untold { user, requests } = &untold;
            match turned_away(self.services, user.as_deref(), *requests).await {
                Ok(()) => {
                    tracing::warn!(user, requests, "requests from outside turned away");
                    return;
                }
                Err(error) => tracing::warn!(%error, "what was turned away is written down later"),
            }
            if self.shutdown.is_cancelled() {
                return;
            }
            self.waited(&mut wait).await;
        }
    }

    /// Waits, the next time twice as long; false: shutdown was asked for.
    async fn waited(&self, wait: &mut Duration) -> bool {
        let waited = tokio::time::timeout(*wait, self.shutdown.cancelled()).await;
        *wait = (*wait * 2).min(LONGEST_WAIT);
        waited.is_err()
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
