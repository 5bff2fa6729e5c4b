//! The worker's loop: receive, handle, settle; a failure becomes a delayed row (rule 4).

use std::{collections::HashMap, sync::Arc, time::Duration};

use rekey_broker::{Delivery, Settlement, Transport};
use rekey_domain::RetryPolicy;
use rekey_messages::{Event, Queue, route_of};
use rekey_store::{Store, StoreError, Unit, dead_letters, inbox};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Handler, Job, JobError, crash,
    handler::{AnyHandler, Typed},
    metrics as names,
};

/// How long running handlers may take to end after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(20);
/// Thrice within a delivery's lease.
const KEEP_EVERY: Duration = Duration::from_secs(4);
/// How long to leave a store or transport alone that does not answer.
const RETREAT: Duration = Duration::from_millis(500);

/// A worker on queues, with its handlers.
pub struct Consumer {
    queues: &'static [Queue],
    slots: usize,
    shared: Arc<Shared>,
    handlers: HashMap<&'static str, Arc<dyn AnyHandler>>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    store: Store,
}

impl Consumer {
    /// A worker on `queues`, what is in the first before what is in the others, that handles up to
    /// `slots` deliveries at once.
    pub fn new(
        queues: &'static [Queue],
        slots: usize,
        transport: Arc<dyn Transport>,
        store: Store,
    ) -> Self {
        let shared = Arc::new(Shared { transport, store });
        Self {
            queues,
            slots,
            shared,
            handlers: HashMap::new(),
        }
    }

    /// Adds a handler.
    #[must_use]
    pub fn handle<H: Handler>(mut self, handler: H) -> Self {
        // Zero is said too: a figure that is not there looks like one that is not measured.
        for name in [names::RETRIES, names::DEAD_LETTERS] {
            ::metrics::counter!(name, "handler" => H::NAME).increment(0);
        }
        let typed = Typed(Arc::new(handler));
        self.handlers.insert(typed.type_(), Arc::new(typed));
        self
    }

    /// Works until `shutdown`, then lets running handlers end within a deadline. What they do not
    /// finish comes again.
    pub async fn run(self, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.slots));
        let mut running = JoinSet::new();
        while let Some(delivery) = self.next(&slots, &shutdown).await {
            let (delivery, slot) = delivery;
            crash::point("worker.received");
            let (shared, handlers) = (self.shared.clone(), self.handlers.clone());
            running.spawn(async move {
                shared.process(&handlers, delivery).await;
                drop(slot);
            });
            while running.try_join_next().is_some() {}
        }
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(queues = ?self.queues, "handlers did not end in time; their messages come again");
        }
    }

    async fn next(
        &self,
        slots: &Arc<Semaphore>,
        shutdown: &CancellationToken,
    ) -> Option<(Delivery, tokio::sync::OwnedSemaphorePermit)> {
        loop {
            let received = async {
                let slot = slots
                    .clone()
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                (self.shared.transport.receive(self.queues).await, slot)
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                (delivery, slot) = received => match delivery {
                    Ok(delivery) => return Some((delivery, slot)),
                    Err(error) => tracing::warn!(queues = ?self.queues, %error, "waiting for the transport"),
                },
            }
            tokio::time::sleep(RETREAT).await;
        }
    }
}

impl Shared {
    async fn process(
        self: &Arc<Self>,
        handlers: &HashMap<&'static str, Arc<dyn AnyHandler>>,
        delivery: Delivery,
    ) {
        let queue = delivery.queue;
        let outcome = match Event::parse(delivery.body.as_bytes()) {
            Ok(event) => match handlers.get(event.type_.as_str()) {
                Some(handler) => self.attempt(handler.clone(), event, &delivery).await,
                None => {
                    self.dead_letter(
                        queue,
                        &event.type_,
                        &delivery.body,
                        "no handler for this type",
                    )
                    .await
                }
            },
            Err(error) => {
                self.dead_letter(queue, "unreadable", &delivery.body, &error.to_string())
                    .await
            }
        };
        let settlement = match outcome {
            Ok(()) => Settlement::Done,
            Err(error) => {
                tracing::warn!(%queue, %error, "the store did not take the outcome; the message comes again");
                tokio::time::sleep(RETREAT).await;
                Settlement::Return
            }
        };
        crash::point("worker.handled");
        if let Err(error) = self.transport.settle(delivery.receipt, settlement).await {
            tracing::warn!(%queue, %error, "not settled; the message comes again");
        }
    }

    /// Runs the handler in a task of its own, so that a panic is one failed attempt.
    async fn attempt(
        self: &Arc<Self>,
        handler: Arc<dyn AnyHandler>,
        event: Event,
        delivery: &Delivery,
    ) -> Result<(), StoreError> {
        // A duplicate of work that was done would notice only at its end. Until then it would keep others from their
        // work, and they would put theirs off by further duplicates.
        if inbox::took_effect(self.store.db(), &event, handler.name()).await? {
            return Ok(());
        }
        let job = Job {
            event: event.clone(),
            handler: handler.name(),
            store: self.store.clone(),
        };
        let task = {
            let handler = handler.clone();
            tokio::spawn(async move { handler.handle(&job).await })
        };
        let result = self.keep_while(delivery, task).await;
        // A panic's own text may quote a row's contents. The log says where it was.
        let panicked = |_| Err(JobError::Retry("the handler panicked".into()));
        let error = match result.unwrap_or_else(panicked) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        crash::point("worker.failed");
        match error {
            JobError::Snooze(delay) => self.resend(handler.name(), event, delay, false).await,
            JobError::Retry(error) => {
                let policy: RetryPolicy = handler.retry_policy();
                tracing::warn!(handler = handler.name(), attempt = event.attempt, %error, "attempt failed");
                ::metrics::counter!(names::RETRIES, "handler" => handler.name()).increment(1);
                match policy.delay(event.attempt, rand::random()) {
                    Some(delay) => self.resend(handler.name(), event, delay, true).await,
                    None => {
                        self.give_up(delivery.queue, &*handler, event, &error.to_string())
                            .await
                    }
                }
            }
            JobError::Discard(error) => {
                self.give_up(delivery.queue, &*handler, event, &error.to_string())
                    .await
            }
        }
    }

    async fn keep_while<T>(
        &self,
        delivery: &Delivery,
        mut task: tokio::task::JoinHandle<T>,
    ) -> Result<T, tokio::task::JoinError> {
        let mut ticks = interval(KEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                result = &mut task => return result,
                _ = ticks.tick() => {
                    if let Err(error) = self.transport.keep(delivery.receipt.clone()).await {
                        tracing::warn!(%error, "the delivery could not be kept");
                    }
                }
            }
        }
    }

    /// The next attempt is a row that commits with this attempt's inbox row.
    async fn resend(
        &self,
        handler: &str,
        event: Event,
        delay: Duration,
        counts: bool,
    ) -> Result<(), StoreError> {
        let unit = self.store.begin().await?;
        if counts && !inbox::first_sight(&unit, &event, handler).await? {
            return Ok(());
        }
        let route = route_of(&event).expect("only types of the catalogue have handlers");
        let event = if counts { event.next_attempt() } else { event };
        unit.send_event(&event, route, delay).await?;
        unit.commit().await
    }

    async fn give_up(
        &self,
        queue: Queue,
        handler: &dyn AnyHandler,
        event: Event,
        why: &str,
    ) -> Result<(), StoreError> {
        tracing::error!(
            handler = handler.name(),
            why,
            "given up; see rekey dead-letters list"
        );
        ::metrics::counter!(names::DEAD_LETTERS, "handler" => handler.name()).increment(1);
        let unit = self.store.begin().await?;
        if !inbox::first_sight(&unit, &event, handler.name()).await? {
            return Ok(());
        }
        handler.exhausted(&event, why, &unit).await?;
        file(unit, queue, &event.type_, &event.to_json(), why).await
    }

    async fn dead_letter(
        &self,
        queue: Queue,
        type_: &str,
        body: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        tracing::error!(%queue, type_, why, "not handled; see rekey dead-letters list");
        ::metrics::counter!(names::DEAD_LETTERS, "handler" => "none").increment(1);
        let unit = self.store.begin().await?;
        file(unit, queue, type_, body, why).await
    }
}

async fn file(
    unit: Unit,
    queue: Queue,
    type_: &str,
    event: &str,
    why: &str,
) -> Result<(), StoreError> {
    dead_letters::file(&unit, queue, type_, event, why).await?;
    unit.commit().await
}

#[cfg(test)]
mod tests;
