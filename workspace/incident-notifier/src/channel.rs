//! One channel, which one process at a time serves: it plans what is to be told, sends it, and notes what became of it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rekey_domain::{About, attempt_again};
use rekey_operations::{
    Services,
    notifications::notice::{self, Notice},
};
use rekey_runtime::{
    config::{ChannelConfig, MonitoringConfig},
    crash, leased,
};
use rekey_store::{
    Store, StoreError,
    channels::{self, Channel},
    deliveries::{self, Delivery},
    leases::Lease,
};
use tokio_util::sync::CancellationToken;

use crate::{
    letter::{Failure, Letter},
    on_its_way::OnItsWay,
    plan,
    receiver::Receiver,
};

/// Between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longer than any receiver is waited for.
const KNOWN_WITHIN: Duration = Duration::from_secs(35);
/// A test that was not taken by then is over.
const TESTED_FOR: Duration = Duration::from_secs(60);
/// For how long it can be seen what was told.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);
/// So much is on its way at once: what hangs holds up only as much.
const ON_ITS_WAY: usize = 16;

/// Serves the channel until `shutdown`, whenever no other process does.
pub async fn tell(
    services: &Services,
    config: &ChannelConfig,
    monitoring: &MonitoringConfig,
    shutdown: &CancellationToken,
) {
    let name = channels::lease(&config.name);
    let desk = Desk {
        services,
        config,
        monitoring,
    };
    let mut said = String::new();
    while !shutdown.is_cancelled() {
        let told = match desk.stored().await {
            Ok(None) => Err("the store has no such channel, or another of its name: rekey apply this file, or start with the one that was applied".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(Some(_)) => {
                let store = (&services.store, services.holder.as_str());
                let desk = &desk;
                let told = leased::run(store, &name, |lease| async move {
                    desk.serve(&lease, shutdown).await
                });
                let told: Result<Option<()>, StoreError> = told.await;
                told.map_err(|error| error.to_string())
            }
        };
        if let Err(why) = told
            && said != why
        {
            tracing::warn!(channel = %config.name, why, "nothing is told here for now");
            said = why;
        }
        let pause = tokio::time::sleep(2 * LOOK_EVERY);
        shutdown.run_until_cancelled(pause).await;
    }
}

/// Where the deliveries of one channel are made.
struct Desk<'a> {
    services: &'a Services,
    config: &'a ChannelConfig,
    monitoring: &'a MonitoringConfig,
}

/// What became of an attempt.
type Attempted = (Delivery, Result<(), Failure>);

impl Desk<'_> {
    /// Ends where the store knows no such channel, or another under its name.
    async fn serve(
        &self,
        lease: &Lease,
        shutdown: &CancellationToken,
    ) -> Result<leased::Ended<()>, StoreError> {
        let mut on_its_way: FuturesUnordered<BoxFuture<'_, Attempted>> = FuturesUnordered::new();
        let mut under_way = OnItsWay::default();
        let mut pruned: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            let Some(channel) = self.stored().await? else {
                break;
            };
            self.plan(&channel, lease, &under_way).await?;
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
                self.prune(lease).await?;
                pruned = Some(Instant::now());
            }
            for delivery in self.due(&channel, lease, &mut under_way).await? {
                // The store is asked here: what is on its way waits while this loop does, and must hold nothing of it.
                let written = self.write(&delivery).await?;
                on_its_way.push(self.attempt(delivery, written).boxed());
            }
            let mut changes = self.services.store.changes();
            changes.mark_unchanged();
            tokio::select! {
                Some((delivery, outcome)) = on_its_way.next() => {
                    self.note(lease, &delivery, outcome).await?;
                    under_way.remove(&delivery);
                }
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(LOOK_EVERY, changes.changed()) => {}
            }
        }
        Ok(leased::Ended::Held(()))
    }

    /// What was told long ago, of what is over.
    async fn prune(&self, lease: &Lease) -> Result<(), StoreError> {
        let unit = plan::leading(self.store(), lease).await?;
        let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        deliveries::prune(&unit, unit.database_time_in(Duration::ZERO) - kept).await?;
        unit.commit().await
    }

    /// The channel as `rekey apply` wrote it; none where it is another than this process knows.
    async fn stored(&self) -> Result<Option<Channel>, StoreError> {
        let found = channels::find(self.store().db(), &self.config.name).await?;
        Ok(found.filter(|found| found.kind == self.config.receiver.kind()))
    }

    async fn plan(
        &self,
        channel: &Channel,
        lease: &Lease,
        on_its_way: &OnItsWay,
    ) -> Result<(), StoreError> {
        if channel.disabled_at.is_some() {
            return Ok(());
        }
        plan::all(self.store(), channel, lease, on_its_way).await
    }

    /// What is sent now. That it is on its way is noted first.
    async fn due(
        &self,
        channel: &Channel,
        lease: &Lease,
        on_its_way: &mut OnItsWay,
    ) -> Result<Vec<Delivery>, StoreError> {
        if on_its_way.count() >= ON_ITS_WAY {
            return Ok(Vec::new());
        }
        let mut due = plan::due(self.store(), channel, lease, 2 * ON_ITS_WAY as u64).await?;
        due.retain(|delivery| on_its_way.count() < ON_ITS_WAY && on_its_way.add(delivery));
        if due.is_empty() {
            return Ok(due);
        }
        let unit = plan::leading(self.store(), lease).await?;
        let ids: Vec<_> = due.iter().map(|delivery| delivery.id).collect();
        deliveries::begin_attempts(&unit, &ids, KNOWN_WITHIN).await?;
        unit.commit().await?;
        Ok(due)
    }

    /// What is said, and when; none where what it is about is gone.
    async fn write(
        &self,
        delivery: &Delivery,
    ) -> Result<Option<(Notice, DateTime<Utc>)>, StoreError> {
        let runbooks = self.monitoring.runbooks.as_deref();
        let notice = notice::of(self.store().db(), delivery, runbooks).await?;
        let now = self.services.store.now().await?;
        Ok(notice.map(|notice| (notice, now)))
    }

    async fn attempt(
        &self,
        delivery: Delivery,
        written: Option<(Notice, DateTime<Utc>)>,
    ) -> Attempted {
        let outcome = match &written {
            Some((notice, now)) => self.send(&delivery, notice, *now).await,
            None => Ok(()),
        };
        (delivery, outcome)
    }

    async fn send(
        &self,
        delivery: &Delivery,
        notice: &Notice,
        now: DateTime<Utc>,
    ) -> Result<(), Failure> {
        // Read anew for each attempt, so that a secret is replaced without a restart.
        let receiver = Receiver::open(&self.config.receiver)
            .map_err(|problem| Failure::later(problem.to_string()))?;
        let letter = Letter {
            id: delivery.id,
            channel: &self.config.name,
            notice,
            now,
            answers: &delivery.answers,
        };
        receiver.send(&letter).await
    }

    async fn note(
        &self,
        lease: &Lease,
        delivery: &Delivery,
        outcome: Result<(), Failure>,
    ) -> Result<(), StoreError> {
        crash::point("notifier.sent");
        let (name, id) = (&self.config.name, delivery.id);
        let unit = plan::leading(self.store(), lease).await?;
        match outcome {
            Ok(()) => {
                deliveries::note_sent(&unit, id).await?;
                let known = channels::find(unit.db(), name).await?;
                if known.is_some_and(|channel| channel.failing_since.is_some()) {
                    // It works again: what presses still, and was given up, is told after all.
                    deliveries::revive(&unit, name).await?;
                }
                channels::note_success(&unit, name).await?;
            }
            Err(failure) => {
                let now = unit.database_time_in(Duration::ZERO);
                let first = delivery.first_attempt_at.unwrap_or(now);
                let age = Duration::from_millis((now - first).max(0).unsigned_abs());
                let attempts = delivery.attempts + 1;
                let wait = match failure.may_pass {
                    true => attempt_again(attempts, age, failure.asked, rand::random()),
                    false => None,
                };
                // Whoever tests looks now.
                let tests = delivery.about == About::Test;
                let wait = wait.filter(|wait| !tests || age + *wait <= TESTED_FOR);
                let Failure { why, gone, .. } = &failure;
                tracing::warn!(channel = %name, delivery = %id, attempts, why, "not taken");
                let answers = failure.answers.clone();
                let answers = answers.unwrap_or_else(|| delivery.answers.clone());
                deliveries::note_failure(&unit, id, (why, answers), wait).await?;
                channels::note_failure(&unit, name, why, *gone).await?;
            }
        }
        unit.commit().await
    }

    fn store(&self) -> &Store {
        &self.services.store
    }
}
