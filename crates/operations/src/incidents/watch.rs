//! States that people are told of, read off the store's rows: an alert is raised while the rows say so, and clears by
//! itself. Whoever looks holds the lease `alerts`: the scheduler, or a notifier where no scheduler works.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use rekey_domain::{
    AlertKind, HARD_LIMIT, KeyState, PASSES_AT_ONCE, RotationState, Schedule, Severity, Worker,
    expiring,
};
use rekey_runtime::leased::Ended;
use rekey_store::{
    ConnectionTrait, StoreError, alerts, batches, certificates, channels, columns, dead_letters,
    deliveries, gauges, incidents,
    keyrings::{self, Keyring},
    keys::{self, Key},
    leases, quarantine,
    rotations::{self, Rotation},
    stragglers,
};
use tokio_util::sync::CancellationToken;

mod away;
mod backups;
mod masters;
mod standing;

use self::standing::{MINUTE, Standing};
use super::left;
use crate::{Services, rotations::stragglers::is_done_with, work::workers};

const LEASE: &str = "alerts";
/// Between two looks, and before another process may look.
const EVERY: Duration = Duration::from_secs(2);
/// What is signed, taken or counted by itself is so by then.
const SIGNED_WITHIN: TimeDelta = TimeDelta::minutes(5);
const TAKEN_WITHIN: f64 = 300.0;
const COUNTED_WITHIN: TimeDelta = TimeDelta::hours(1);
/// A channel that takes nothing for so long is dead.
const DEAD_AFTER: TimeDelta = TimeDelta::minutes(5);
/// Whoever has not looked for so long does not know what has stood meanwhile.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Of [`HARD_LIMIT`], in hundredths.
const NEAR_LIMIT: u64 = 90;

/// The kinds that are read off rows. The others are raised and cleared in the unit of what happened.
const KINDS: [AlertKind; 21] = [
    AlertKind::StoreRolledBack,
    AlertKind::BackupWaived,
    AlertKind::MasterReportUnfinished,
    AlertKind::BackupFailed,
    AlertKind::NoRecoveryKey,
    AlertKind::Expiring,
    AlertKind::UsageNearLimit,
    AlertKind::NoPrimary,
    AlertKind::NoStandby,
    AlertKind::RotationFailed,
    AlertKind::RotationStalled,
    AlertKind::QuarantineNotEmpty,
    AlertKind::Stragglers,
    AlertKind::LeftUnderCompromised,
    AlertKind::CertificateUnsigned,
    AlertKind::OutboxOld,
    AlertKind::DeadLetters,
    AlertKind::WorkerSilent,
    AlertKind::KmsAway,
    AlertKind::SourceAway,
    AlertKind::ChannelDead,
];

/// Looks until `shutdown`, whenever nobody else does. Keys that expire within `warning` are told.
pub async fn watch(services: &Services, warning: Duration, shutdown: &CancellationToken) {
    // It outlives an error, or what has to stand for a while would never have stood long enough.
    let mut watch = Watch::default();
    let mut said = String::new();
    while !shutdown.is_cancelled() {
        let name = (&services.store, services.holder.as_str());
        let ours = &mut watch;
        let watched = rekey_runtime::leased::run(name, LEASE, |lease| async move {
            while !shutdown.is_cancelled() {
                ours.look(services, warning, &lease).await?;
                let pause = tokio::time::sleep(EVERY);
                shutdown.run_until_cancelled(pause).await;
            }
            Ok(Ended::Held(()))
        });
        let watched: Result<Option<()>, StoreError> = watched.await;
        let why = watched.map_or_else(|error| error.to_string(), |_| String::new());
        if !why.is_empty() && why != said {
            tracing::warn!(why, "alerts may be missing, and are looked for again");
        }
        said = why;
        let pause = tokio::time::sleep(EVERY);
        shutdown.run_until_cancelled(pause).await;
    }
}

/// Who looks again and again.
#[derive(Default)]
struct Watch {
    /// Since when each state stands.
    since: HashMap<(AlertKind, String), Instant>,
    looked_at: Option<Instant>,
}

impl Watch {
    async fn look(
        &mut self,
        services: &Services,
        warning: Duration,
        lease: &leases::Lease,
    ) -> Result<(), StoreError> {
        let standing = self.settled(standing(services, warning).await?);
        let raised = alerts::raised(services.store.db()).await?;
        let raised: Vec<_> = raised
            .into_iter()
            .filter(|alert| KINDS.contains(&alert.kind))
            .collect();
        let is_known = |one: &&Standing| {
            raised.iter().any(|alert| {
                let same = (alert.kind, &alert.subject) == (one.kind, &one.subject);
                same && (alert.severity, alert.figure) == (one.severity, one.figure)
            })
        };
        let stands = |alert: &&alerts::Alert| {
            let same = |one: &Standing| (alert.kind, &alert.subject) == (one.kind, &one.subject);
            standing.iter().any(same)
        };
        let news: Vec<_> = standing.iter().filter(|one| !is_known(one)).collect();
        let over: Vec<_> = raised.iter().filter(|alert| !stands(alert)).collect();
        // Each in a unit of its own: what cannot be written keeps nothing else from being told.
        let mut first = Ok(());
        for one in news {
            let written = raised_as(services, lease, one).await;
            first = first.and(written);
        }
        for alert in over {
            let written = cleared(services, lease, alert).await;
            first = first.and(written);
        }
        first
    }

    /// Those that have stood long enough.
    fn settled(&mut self, standing: Vec<Standing>) -> Vec<Standing> {
        let now = Instant::now();
        let looked_at = self.looked_at.replace(now);
        if looked_at.is_some_and(|at| now.duration_since(at) > FORGOTTEN_AFTER) {
            self.since.clear();
        }
        let name = |one: &Standing| (one.kind, one.subject.clone());
        let names: Vec<_> = standing.iter().map(name).collect();
        self.since.retain(|known, _| names.contains(known));
        let mut settled = standing;
        settled.retain(|one| {
            let since = *self.since.entry(name(one)).or_insert(now);
            now.duration_since(since) >= one.settles
        });
        settled
    }
}

async fn raised_as(
    services: &Services,
    lease: &leases::Lease,
    one: &Standing,
) -> Result<(), StoreError> {
    let unit = services.store.begin().await?;
    leases::hold(&unit, lease, leases::JOB_LEASE).await?;
    let what = (one.kind, one.severity);
    alerts::raise_as(&unit, what, &one.subject, one.incident, one.figure).await?;
    unit.commit().await
}

async fn cleared(
    services: &Services,
    lease: &leases::Lease,
    alert: &alerts::Alert,
) -> Result<(), StoreError> {
    let unit = services.store.begin().await?;
    leases::hold(&unit, lease, leases::JOB_LEASE).await?;
    alerts::clear(&unit, alert.kind, &alert.subject).await?;
    unit.commit().await
}

async fn standing(services: &Services, warning: Duration) -> Result<Vec<Standing>, StoreError> {
    let db = services.store.db();
    let now = services.store.now().await?;
    let keyrings = keyrings::all(db).await?;
    let mut standing = Vec::new();
    for keyring in &keyrings {
        let keys = keys::of_keyring(db, keyring.id).await?;
        standing.extend(of_keyring(keyring, &keys, warning, now));
        standing.extend(of_compromised(db, keyring, keys).await?);
    }
    for rotation in rotations::not_over(db).await? {
        standing.extend(of_rotation(db, &rotation, now).await?);
    }
    standing.extend(of_values(db, &keyrings).await?);
    standing.extend(of_messages(db, now).await?);
    standing.extend(of_workers(services).await?);
    standing.extend(of_channels(db, now).await?);
    standing.extend(backups::standing(db, &keyrings, now).await?);
    standing.extend(masters::standing(db, &keyrings).await?);
    if keys::suspension::suspension(db).await?.is_some() {
        standing.push(Standing::new(AlertKind::StoreRolledBack, "a checkpoint"));
    }
    Ok(standing)
}

fn of_keyring(
    keyring: &Keyring,
    keys: &[Key],
    warning: Duration,
    now: DateTime<Utc>,
) -> Vec<Standing> {
    let Some(primary) = keys.iter().find(|key| key.state == KeyState::Active) else {
        let none = Standing::new(AlertKind::NoPrimary, &keyring.name);
        return vec![none.after(MINUTE)];
    };
    let mut standing = Vec::new();
    if keys.iter().all(|key| key.state != KeyState::Pending) {
        let none = Standing::new(AlertKind::NoStandby, &keyring.name);
        standing.push(none.after(5 * MINUTE));
    }
    let name = primary.name(keyring);
    let line = keyring.policy.rotate.as_ref();
    let schedule = line.and_then(|line| Schedule::parse(line, &keyring.policy.time_zone).ok());
    let next = schedule.and_then(|schedule| schedule.next_after(now));
    if let Some(severity) = expiring(primary.expires_at, warning, next, now) {
        let expires = Standing::new(AlertKind::Expiring, &name);
        standing.push(expires.pressing(severity));
    }
    let hundredths = primary.used.saturating_mul(100) / HARD_LIMIT;
    if hundredths >= NEAR_LIMIT {
        let near = Standing::new(AlertKind::UsageNearLimit, &name);
        standing.push(near.counting(hundredths));
    }
    standing
}

async fn of_compromised(
    db: &impl ConnectionTrait,
    keyring: &Keyring,
    keys: Vec<Key>,
) -> Result<Vec<Standing>, StoreError> {
    let mut standing = Vec::new();
    for key in left::of_keyring(db, keyring, keys).await? {
        standing.push(Standing {
            incident: incidents::latest_of_key(db, key.id).await?,
            ..Standing::new(AlertKind::LeftUnderCompromised, key.name(keyring))
        });
    }
    Ok(standing)
}

async fn of_rotation(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    now: DateTime<Utc>,
) -> Result<Option<Standing>, StoreError> {
    if rotation.state == RotationState::Failed {
        let failed = Standing::new(AlertKind::RotationFailed, rotation.id);
        return Ok(Some(match rotation.is_emergency() {
            true => failed.pressing(Severity::Critical),
            false => failed,
        }));
    }
    let of_batches = batches::waiting_since(db, rotation).await?;
    let since = rotation.waiting_since.into_iter().chain(of_batches).min();
    let since = since.and_then(DateTime::from_timestamp_millis);
    let waits = since.is_some_and(|since| since < now - COUNTED_WITHIN);
    let holds_itself = rotation.paused && !rotation.is_paused_by_a_person();
    let stalled = waits || holds_itself || rotation.passes() > PASSES_AT_ONCE;
    Ok(stalled.then(|| Standing::new(AlertKind::RotationStalled, rotation.id)))
}

async fn of_values(
    db: &impl ConnectionTrait,
    keyrings: &[Keyring],
) -> Result<Vec<Standing>, StoreError> {
    let mut standing = Vec::new();
    let by_column = quarantine::open_by_column(db).await?;
    let columns = if by_column.is_empty() {
        Vec::new()
    } else {
        columns::keyrings(db).await?
    };
    for keyring in keyrings {
        let is_ours = |id| columns.contains(&(id, keyring.id));
        let ours = by_column.iter().filter(|(column, _)| is_ours(*column));
        let values: u64 = ours.map(|(_, values)| values).sum();
        if values > 0 {
            let left = Standing::new(AlertKind::QuarantineNotEmpty, &keyring.name);
            standing.push(left.counting(values));
        }
    }
    for look in stragglers::all(db).await? {
        let Some(keyring) = keyrings.iter().find(|one| one.id == look.keyring_id) else {
            continue;
        };
        let found = look.stragglers.unsigned_abs();
        let stands = found > 0 || look.unknown_keys.is_some();
        if stands && !is_done_with(db, &look).await? {
            let left = Standing::new(AlertKind::Stragglers, &keyring.name);
            standing.push(left.counting(found));
        }
    }
    Ok(standing)
}

async fn of_messages(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, StoreError> {
    let mut standing = Vec::new();
    for rotation in certificates::unsigned(db).await? {
        if rotation
            .ended_at
            .is_some_and(|ended| ended < now - SIGNED_WITHIN)
        {
            standing.push(Standing::new(AlertKind::CertificateUnsigned, rotation.id));
        }
    }
    let gauges = gauges::read(db).await?;
    if gauges.outbox_age > TAKEN_WITHIN {
        standing.push(Standing::new(AlertKind::OutboxOld, "outbox"));
    }
    let dead = dead_letters::count_open(db).await?;
    if dead > 0 {
        let letters = Standing::new(AlertKind::DeadLetters, "dead letters");
        standing.push(letters.counting(dead));
    }
    Ok(standing)
}

async fn of_workers(services: &Services) -> Result<Vec<Standing>, StoreError> {
    let db = services.store.db();
    let views = workers::all(services).await?;
    let works = |worker: Worker| {
        let mut of_kind = views.iter().filter(|view| view.worker == worker.name());
        of_kind.any(|view| !view.silent)
    };
    let needed = workers::needed(services).await?.into_iter();
    let silent = needed.filter(|worker| !works(*worker));
    let mut standing: Vec<_> = silent
        .map(|worker| Standing::new(AlertKind::WorkerSilent, worker.name()).after(MINUTE))
        .collect();
    standing.extend(away::standing(db, &views).await?);
    Ok(standing)
}

async fn of_channels(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, StoreError> {
    let mut standing = Vec::new();
    for channel in channels::all(db).await? {
        // A notifier that runs with another file does not serve it.
        if !leases::is_held(db, &channels::lease(&channel.name)).await? {
            standing.push(Standing::new(AlertKind::ChannelDead, &channel.name).after(MINUTE));
            continue;
        }
        let Some(since) = channel.failing_since else {
            continue;
        };
        let long = since < now - DEAD_AFTER;
        let given_up = deliveries::given_up_since(db, &channel.name, since).await?;
        if long || given_up || channel.disabled_at.is_some() {
            standing.push(Standing::new(AlertKind::ChannelDead, &channel.name));
        }
    }
    Ok(standing)
}
