//! The queue `requests`: what people and systems outside publish is admitted or refused.
//!
//! Not a [`rekey_runtime::Worker`]: what it makes a dead letter is here refused and audited.

use std::time::Duration;

use rekey_broker::{Delivery, Settlement, Transport};
use rekey_messages::Queue;
use rekey_operations::{Admission, OperationError, Requester, Services, admit};
use tokio_util::sync::CancellationToken;

/// How long to leave a store or transport alone that does not answer.
const RETREAT: Duration = Duration::from_millis(500);
/// How long a request may take to end after shutdown was asked for; then it comes again.
const DRAIN: Duration = Duration::from_secs(5);

/// Takes requests, one at a time, until `shutdown`.
pub async fn run(
    services: &Services,
    transport: &dyn Transport,
    requesters: &[Requester],
    shutdown: &CancellationToken,
) {
    loop {
        let received = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            received = transport.receive(&[Queue::Requests]) => received,
        };
        match received {
            Ok(delivery) => tokio::select! {
                () = take(services, transport, requesters, delivery) => {}
                () = drained(shutdown) => return,
            },
            Err(error) => {
                tracing::warn!(%error, "no requests from outside");
                let _ = tokio::time::timeout(RETREAT, shutdown.cancelled()).await;
            }
        }
    }
}

async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

async fn take(
    services: &Services,
    transport: &dyn Transport,
    requesters: &[Requester],
    delivery: Delivery,
) {
    let user = delivery.user_id.as_deref();
    let admission = admit(services, requesters, user, delivery.body.as_bytes()).await;
    let settlement = settlement(&admission);
    let settled = transport.settle(delivery.receipt, settlement).await;
    if let Err(error) = settled {
        tracing::warn!(%error, "not settled; the request comes again");
    }
}

fn settlement(admission: &Result<Admission, OperationError>) -> Settlement {
    match admission {
        Ok(Admission::Admitted(event)) => {
            tracing::info!(event, "request from outside admitted");
            Settlement::Done
        }
        Ok(Admission::Refused(reason)) => {
            tracing::warn!(reason, "request from outside refused");
            Settlement::Done
        }
        Err(error) => {
            tracing::warn!(%error, "a request from outside waits");
            Settlement::Return
        }
    }
}
