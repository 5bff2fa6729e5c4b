//! The ping to a service outside, once a minute while people can be told: when the pings stop, that service pages.

use std::time::Duration;

use chrono::TimeDelta;
use rekey_domain::Worker;
use rekey_operations::{OperationError, Services, works};
use rekey_runtime::config::{ChannelConfig, MonitoringConfig};
use rekey_store::deliveries;
use tokio_util::sync::CancellationToken;

use crate::receiver::http::{self, Target};

const EVERY: Duration = Duration::from_secs(60);
/// What presses is on its way for no longer than this; what waits longer is not told.
const TOLD_WITHIN: TimeDelta = TimeDelta::minutes(2);

/// Pings until `shutdown`, where a URL is configured.
pub async fn ping(
    services: &Services,
    channels: &[ChannelConfig],
    monitoring: &MonitoringConfig,
    shutdown: &CancellationToken,
) {
    let Some(url) = &monitoring.heartbeat_url else {
        return;
    };
    let pinging = async {
        loop {
            match is_well(services, channels).await {
                Ok(true) => {
                    let target =
                        Target::parse(url.expose_url(), monitoring.heartbeat_allow_private);
                    let pinged = match target {
                        Ok(target) => http::get(&target).await.map_err(|failure| failure.why),
                        Err(why) => Err(why),
                    };
                    if let Err(why) = pinged {
                        tracing::warn!(why, "monitoring.heartbeat_url was not reached");
                    }
                }
                Ok(false) => tracing::warn!("no heartbeat: people could not be told"),
                Err(error) => tracing::warn!(%error, "no heartbeat"),
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    shutdown.run_until_cancelled(pinging).await;
}

/// Whether a scheduler works beside this notifier, and nothing that presses waits.
async fn is_well(services: &Services, channels: &[ChannelConfig]) -> Result<bool, OperationError> {
    if !works(services, Worker::Scheduler).await? {
        return Ok(false);
    }
    let names: Vec<_> = channels
        .iter()
        .map(|channel| channel.name.clone())
        .collect();
    let before = services.store.now().await? - TOLD_WITHIN;
    let waits = deliveries::presses_for(services.store.db(), &names, before).await?;
    Ok(!waits)
}
