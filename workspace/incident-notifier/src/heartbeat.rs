//! The ping to a service outside, once a minute while people can be told: when the pings stop, that service pages.

use std::time::Duration;

use chrono::TimeDelta;
use rekey_domain::Worker;
use rekey_operations::{OperationError, Services, works};
use rekey_runtime::config::MonitoringConfig;
use rekey_store::{channels, deliveries, leases};
use tokio_util::sync::CancellationToken;

use crate::receiver::http::{self, Target};

const EVERY: Duration = Duration::from_secs(55);
/// Before each ping: at the start, a scheduler beside this process has given its first sign by then.
const FIRST_SIGN: Duration = Duration::from_secs(5);
/// What presses is on its way for no longer than this; what waits longer is not told.
const TOLD_WITHIN: TimeDelta = TimeDelta::minutes(2);

/// Pings until `shutdown`, where a URL is configured.
pub async fn ping(
    services: &Services,
    monitoring: &MonitoringConfig,
    shutdown: &CancellationToken,
) {
    let Some(url) = &monitoring.heartbeat_url else {
        return;
    };
    let pinging = async {
        loop {
            tokio::time::sleep(FIRST_SIGN).await;
            match is_well(services).await {
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

/// Whether a scheduler works beside this notifier, each channel is served, and nothing that presses waits or was given
/// up.
async fn is_well(services: &Services) -> Result<bool, OperationError> {
    if !works(services, Worker::Scheduler).await? {
        return Ok(false);
    }
    let db = services.store.db();
    let before = services.store.now().await? - TOLD_WITHIN;
    for channel in channels::all(db).await? {
        let name = &channel.name;
        let served = leases::is_held(db, &channels::lease(name)).await?;
        let waits = deliveries::presses_for(db, name, before).await?;
        if !served || waits || deliveries::has_given_up(db, name).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
