//! Tells people of incidents and alerts, by the channels of the configuration.

#![cfg_attr(
    test,
    expect(
        clippy::shadow_unrelated,
        reason = "a test looks at one thing again and again"
    )
)]

mod channel;
mod heartbeat;
mod letter;
mod on_its_way;
mod plan;
mod receiver;

use futures::future::join_all;
use rekey_domain::Worker;
use rekey_operations::{Services, beat, watch_alerts};
use rekey_runtime::config::{ChannelConfig, MonitoringConfig};
use tokio_util::sync::CancellationToken;

pub use receiver::{Problem, check, check_heartbeat};

/// What the notifier works with.
#[derive(Clone)]
pub struct Deps {
    /// Store and time.
    pub services: Services,
    /// The channels that this process can reach.
    pub channels: Vec<ChannelConfig>,
    /// What people are warned of, and when.
    pub monitoring: MonitoringConfig,
}

/// Tells people until `shutdown`.
pub async fn run(deps: Deps, shutdown: CancellationToken) {
    let Deps {
        services,
        channels,
        monitoring,
    } = &deps;
    let telling = channels
        .iter()
        .map(|channel| channel::tell(services, channel, monitoring, &shutdown));
    tokio::join!(
        join_all(telling),
        watch_alerts(services, monitoring.expiration_warning, &shutdown),
        heartbeat::ping(services, monitoring, &shutdown),
        beat(services, Worker::IncidentNotifier, None, &shutdown),
    );
}
