//! What every process does beside its work: carry messages, follow changed keyrings, report uses of keys.

use std::{sync::Arc, time::Duration};

use rekey_broker::Transport;
use rekey_client::Client;
use rekey_messages::{Event, KeyringChanged};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub async fn background(
    client: Client,
    transport: Arc<dyn Transport>,
    shutdown: CancellationToken,
) {
    tokio::join!(
        transport.run(shutdown.clone()),
        follow_and_report(client, transport.as_ref(), shutdown.clone()),
    );
}

/// Only what a further client of the process needs: to follow changed keyrings, and to report its uses.
pub async fn follow_and_report(
    client: Client,
    transport: &dyn Transport,
    shutdown: CancellationToken,
) {
    let following = follow(client.clone(), transport.broadcasts());
    tokio::join!(
        report(client, shutdown.clone()),
        shutdown.run_until_cancelled(following),
    );
}

/// A changed keyring ends this process's right to encrypt under the old key at once.
async fn follow(client: Client, mut broadcasts: Receiver<Event>) {
    loop {
        match broadcasts.recv().await {
            Ok(event) => {
                if let Ok(KeyringChanged { keyring }) = event.message() {
                    client.keyring_changed(&keyring);
                }
            }
            // Nobody knows which keyrings the missed messages were about.
            Err(RecvError::Lagged(_)) => client.any_keyring_changed(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// What this process did with keys goes into the audit log every minute, and when it ends.
async fn report(client: Client, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let _ = tokio::time::timeout(REPORT_EVERY, shutdown.cancelled()).await;
        if let Err(error) = client.flush().await {
            tracing::warn!(%error, "uses of keys are reported later");
        }
    }
}
