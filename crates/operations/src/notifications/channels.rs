//! The channels as people see them, and trying one out: the notifier sends, as it alone has URLs and secrets.

use chrono::{DateTime, Utc};
use rekey_domain::{
    About, ChannelKind, ChannelName, ChannelPolicy, DeliveryState, Occurrence, Principal,
};
use rekey_store::{
    StoreError,
    channels::{self, Channel},
    deliveries::{self, NewDelivery},
    leases,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{Action, OperationError, Services, authorise};

/// A channel.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelView {
    /// Its name.
    pub name: ChannelName,
    /// What it speaks.
    pub kind: ChannelKind,
    /// What goes there.
    #[serde(flatten)]
    pub policy: ChannelPolicy,
    /// Whether a notifier serves it: one runs, and its file has it as it was applied.
    pub served: bool,
    /// Since when its receiver wants nothing any more.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Since when all attempts have failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// Why the last one did.
    pub failure: Option<String>,
}

impl ChannelView {
    fn of(channel: Channel, served: bool) -> Self {
        Self {
            served,
            name: channel.name,
            kind: channel.kind,
            policy: channel.policy,
            disabled_at: channel.disabled_at,
            failing_since: channel.failing_since,
            failure: channel.failure,
        }
    }
}

/// What became of a test on one channel.
#[derive(Debug, Clone, Serialize)]
pub struct TestView {
    /// The channel.
    pub channel: ChannelName,
    /// Whether it was taken; none: nobody knows yet.
    pub sent: Option<bool>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

/// Every channel, by name.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn channel_views(
    services: &Services,
    principal: &Principal,
) -> Result<Vec<ChannelView>, OperationError> {
    authorise(principal, Action::ReadChannels)?;
    let db = services.store.db();
    let mut views = Vec::new();
    for channel in channels::all(db).await? {
        let served = leases::is_held(db, &channels::lease(&channel.name)).await?;
        views.push(ChannelView::of(channel, served));
    }
    Ok(views)
}

/// Has a notifier send something that is about nothing, to one channel or to all; gives the id to ask after.
///
/// # Errors
/// [`OperationError::Store`] for a channel that there is not; [`OperationError::Refused`] where there is none at all.
pub async fn test_channels(
    services: &Services,
    only: Option<&ChannelName>,
    principal: &Principal,
) -> Result<Uuid, OperationError> {
    authorise(principal, Action::TestChannels)?;
    let unit = services.store.begin().await?;
    let all = channels::all(unit.db()).await?;
    let names: Vec<_> = all.iter().map(|channel| channel.name.clone()).collect();
    if names.is_empty() {
        return Err(OperationError::Refused(
            "there is no channel: say where people are told in [[channel]] of rekey.toml, then rekey apply".to_owned(),
        ));
    }
    if let Some(only) = only.filter(|only| !names.contains(only)) {
        let unknown = StoreError::Unknown {
            what: format!("channel {only}"),
            known: names.iter().map(ToString::to_string).collect(),
        };
        return Err(unknown.into());
    }
    let subject = Uuid::now_v7();
    for name in names
        .iter()
        .filter(|name| only.is_none_or(|only| *name == only))
    {
        let new = NewDelivery {
            about: About::Test,
            subject,
            event: Occurrence::Began,
            occasion: unit.now(),
            presses: true,
        };
        deliveries::plan(&unit, name, [new]).await?;
    }
    unit.commit().await?;
    Ok(subject)
}

/// What became of it so far.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn test_outcome(
    services: &Services,
    test: Uuid,
    principal: &Principal,
) -> Result<Vec<TestView>, OperationError> {
    authorise(principal, Action::TestChannels)?;
    let deliveries = deliveries::about(services.store.db(), test).await?;
    let view = |delivery: deliveries::Delivery| TestView {
        channel: delivery.channel,
        sent: match delivery.state {
            DeliveryState::Sent => Some(true),
            DeliveryState::Dead => Some(false),
            _ => delivery.failure.is_some().then_some(false),
        },
        failure: delivery.failure,
    };
    Ok(deliveries.into_iter().map(view).collect())
}
