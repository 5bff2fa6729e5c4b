//! What a channel is to be told: what began and it was not told of, what ended that it was told of, one digest of what
//! is too much.

use rekey_domain::{About, ChannelKind, DeliveryState, Occurrence, Severity, Share, ends, share};
use rekey_store::{
    Store, StoreError, Unit,
    channels::Channel,
    deliveries::{self, Delivery, Line, NewDelivery},
    leases::{self, JOB_LEASE, Lease},
};

use crate::on_its_way::OnItsWay;

/// One unit plans so many; the next goes on.
const AT_ONCE: u64 = 500;

/// Plans deliveries until there are none to plan.
pub async fn all(
    store: &Store,
    channel: &Channel,
    lease: &Lease,
    on_its_way: &OnItsWay,
) -> Result<(), StoreError> {
    while begun(store, channel, lease).await? + ended(store, channel, lease, on_its_way).await? > 0
    {
    }
    digests_end(store, channel, lease).await?;
    if deliveries::are_overtaken(store.db(), &channel.name).await? {
        let unit = leading(store, lease).await?;
        deliveries::drop_overtaken(&unit, &channel.name).await?;
        unit.commit().await?;
    }
    Ok(())
}

async fn begun(store: &Store, channel: &Channel, lease: &Lease) -> Result<u64, StoreError> {
    let told = (&channel.name, &channel.policy);
    let incidents = deliveries::untold_incidents(store.db(), told, AT_ONCE).await?;
    let alerts = deliveries::untold_alerts(store.db(), told, AT_ONCE).await?;
    let of_incidents = incidents.iter().map(|incident| NewDelivery {
        about: About::Incident,
        subject: incident.id,
        event: Occurrence::Began,
        occasion: incident.opened_at,
        presses: true,
    });
    let of_alerts = alerts.iter().map(|alert| NewDelivery {
        about: About::Alert,
        subject: alert.id,
        event: Occurrence::Began,
        occasion: alert.raised_at,
        presses: alert.severity == Severity::Critical,
    });
    let new: Vec<_> = of_incidents.chain(of_alerts).collect();
    if new.is_empty() {
        return Ok(0);
    }
    let unit = leading(store, lease).await?;
    let planned = deliveries::plan(&unit, &channel.name, new).await?;
    unit.commit().await?;
    Ok(planned)
}

/// What ended before anybody was told is told to nobody. What may have arrived is told to have ended.
async fn ended(
    store: &Store,
    channel: &Channel,
    lease: &Lease,
    on_its_way: &OnItsWay,
) -> Result<u64, StoreError> {
    let mut ended = deliveries::ended(store.db(), &channel.name, AT_ONCE).await?;
    // Only PagerDuty has something left to end after a test.
    let ends_tests = channel.kind == ChannelKind::PagerDuty;
    let is_taken = |one: &Delivery| one.state == DeliveryState::Sent;
    ended.retain(|one| one.about != About::Test || ends_tests && is_taken(one));
    // Its end waits until it is known whether it arrived.
    ended.retain(|one| !on_its_way.has(one));
    if ended.is_empty() {
        return Ok(0);
    }
    let unit = leading(store, lease).await?;
    let mut done = 0;
    for one in ended.iter().filter(|one| one.state == DeliveryState::Due) {
        done += deliveries::drop_moot(&unit, one.id).await?;
    }
    let told = ended.iter().filter(|one| one.attempts > 0).map(end_of);
    done += deliveries::plan(&unit, &channel.name, told).await?;
    unit.commit().await?;
    Ok(done)
}

fn end_of(began: &Delivery) -> NewDelivery {
    NewDelivery {
        about: began.about,
        subject: began.subject,
        event: Occurrence::Ended,
        occasion: began.occasion,
        presses: began.presses,
    }
}

/// Digests end together, when all that they told has ended: they are one to the receiver.
async fn digests_end(store: &Store, channel: &Channel, lease: &Lease) -> Result<(), StoreError> {
    let (digests, is_left) = deliveries::open_digests(store.db(), &channel.name).await?;
    let Some((last, earlier)) = digests.split_last() else {
        return Ok(());
    };
    if is_left {
        return Ok(());
    }
    let unit = leading(store, lease).await?;
    for digest in earlier {
        deliveries::plan_moot(&unit, &channel.name, end_of(digest)).await?;
    }
    deliveries::plan(&unit, &channel.name, [end_of(last)]).await?;
    unit.commit().await
}

/// What is sent now, of what is due: all that presses, of the rest so many, or one digest.
pub async fn due(
    store: &Store,
    channel: &Channel,
    lease: &Lease,
    most: u64,
) -> Result<Vec<Delivery>, StoreError> {
    let (db, name) = (store.db(), &channel.name);
    let now = rekey_store::database_time(db).await?;
    let mut minute = deliveries::last_minute(db, name, now).await?;
    let ended = deliveries::waiting(db, name, Line::Ends, now).await?;
    let ended = ends(minute, ended);
    minute.alone += ended;
    let begun = deliveries::waiting(db, name, Line::Begins, now).await?;
    let alone = match share(minute, begun) {
        Share::Alone(some) => some,
        Share::Wait => 0,
        Share::Digest => {
            let unit = leading(store, lease).await?;
            deliveries::digest(&unit, name).await?;
            unit.commit().await?;
            0
        }
    };
    let mut due = deliveries::due(db, name, Line::Presses, (now, most)).await?;
    for (line, some) in [(Line::Ends, ended), (Line::Begins, alone)] {
        if some > 0 {
            due.extend(deliveries::due(db, name, line, (now, some)).await?);
        }
    }
    // Its receiver wants nothing any more; whether it does again is for a person to try.
    due.retain(|one| channel.disabled_at.is_none() || one.about == About::Test);
    Ok(due)
}

/// A unit that commits only while this process has the channel.
pub async fn leading(store: &Store, lease: &Lease) -> Result<Unit, StoreError> {
    let unit = store.begin().await?;
    leases::hold(&unit, lease, JOB_LEASE).await?;
    Ok(unit)
}
