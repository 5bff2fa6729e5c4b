//! Turns a request for a rotation into a switch of keys and a plan of batches.

mod admit;
mod advance;
mod canary;
mod certificate;
mod changed_parts;
mod due;
mod facts;
mod fewer;
mod key_backed_up;
mod key_created;
mod late;
mod plan;
mod proof;
mod request;
mod sign;
mod standby;
mod steps;
mod stragglers;
mod unknown_keys;
mod verify;
mod waiting;

use std::sync::Arc;

use futures::future::join_all;
use rekey_broker::Transport;
use rekey_domain::Worker as Kind;
use rekey_messages::Queue;
use rekey_operations::{Requester, Services, beat};
use rekey_runtime::Consumer;
use tokio_util::sync::CancellationToken;

/// What the rotator works with.
#[derive(Clone)]
pub struct Deps {
    /// Store, KMS, sources, time.
    pub services: Services,
    /// Where messages come from.
    pub transport: Arc<dyn Transport>,
    /// Who may publish requests to the message broker.
    pub requesters: Vec<Requester>,
}

/// Handles requests, standbys and steps of rotations until `shutdown`.
pub async fn run(deps: Deps, shutdown: CancellationToken) {
    let Deps {
        services,
        transport,
        requesters,
    } = deps;
    let admitting = [Queue::Reports, Queue::Requests]
        .map(|queue| admit::run(queue, &services, &*transport, &requesters, &shutdown));
    let working = work(services.clone(), transport.clone(), shutdown.clone());
    let beating = beat(&services, Kind::Rotator, Some(&*transport), &shutdown);
    tokio::join!(join_all(admitting), working, beating);
}

async fn work(services: Services, transport: Arc<dyn Transport>, shutdown: CancellationToken) {
    Consumer::new(&[Queue::Rotator], 4, transport, services.store.clone())
        .handle(request::RequestRotation {
            services: services.clone(),
        })
        .handle(standby::MakeStandby {
            services: services.clone(),
        })
        .handle(stragglers::LookForStragglers {
            services: services.clone(),
        })
        .handle(key_created::KeyCreatedMovesOn {
            services: services.clone(),
        })
        .handle(key_backed_up::KeyBackedUpMovesOn {
            services: services.clone(),
        })
        .handle(sign::SignCertificate {
            services: services.clone(),
        })
        .handle(due::AdvanceRotation { services })
        .run(shutdown)
        .await;
}
