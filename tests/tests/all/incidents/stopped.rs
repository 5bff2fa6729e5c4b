//! A process that does not run, or reaches nothing, while its key is reported: past its lease it encrypts under that key
//! no more.

use std::{process::Command, time::Duration};

use rekey_domain::{Found, KeyId, KeyRef, KeyringPolicy};
use rekey_operations::{Services, compromise_plan, key_views, report_compromise};
use rekey_testkit::{Proxy, program};
use rekey_tests::{
    cluster::{Cluster, Policy},
    support::{operator, phi, short},
};

use super::{
    encrypting::Encrypting,
    namespace::Namespace,
    report::{report, said, with_standby},
};

/// Stopped while it holds the right to encrypt; told what to encrypt next before it goes on, so that it does so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_over_the_end_of_its_lease_encrypts_under_another_key() {
    let policy = KeyringPolicy {
        encrypt_lease: Duration::from_secs(2),
        ..short()
    };
    let (clinic, engine) = with_standby(policy).await;
    let mut rekey = Command::new(program("rekey"));
    rekey.arg("--state-dir").arg(clinic.disks.state(""));
    rekey.current_dir(clinic.disks.state(""));
    let mut stopped = Encrypting::start(rekey);
    let first = clinic.key_id(&phi(), 1).await;
    let second = clinic.key_id(&phi(), 2).await;
    stopped.tell();
    assert_eq!(stopped.answer(), Some(first));
    stopped.stop().await;
    stopped.tell();

    report(&clinic, "phi/1").await;
    // The emergency waits for the lease, and for nobody who holds it.
    clinic.completes().await;
    stopped.go_on();
    assert_eq!(stopped.answer(), Some(second));
    assert_eq!(clinic.under(Found::Key(first)).await, 0);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_reaches_no_store_encrypts_until_its_lease_ends_and_no_longer() {
    let mut cluster = of_long_leases().await;
    let proxy = Proxy::to(&cluster.places.store).await;
    cluster.places.store = proxy.address().to_string();
    let application = Encrypting::start(cluster.application());
    until_its_lease_ends(&cluster, application, || proxy.refuse()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes a network namespace: needs root and iproute2; run by hand"]
async fn a_process_whose_packets_all_vanish_encrypts_until_its_lease_ends_and_no_longer() {
    let mut cluster = of_long_leases().await;
    let namespace = Namespace::create();
    cluster.places.store = namespace.forward(&cluster.places.store).await;
    cluster.places.kms = namespace.forward(&cluster.places.kms).await;
    let application = Encrypting::start(namespace.inside(&cluster.application()));
    let mut application = until_its_lease_ends(&cluster, application, || namespace.cut()).await;
    namespace.restore();
    // What it had asked reaches the store at last.
    assert_eq!(
        application.answer(),
        None,
        "a compromised key is given to nobody"
    );
}

/// Long enough to see what a process does with the rest of a lease.
async fn of_long_leases() -> Cluster {
    let policy = Policy {
        encrypt_lease: "5s",
        grace_period: "5s",
        ..Policy::default()
    };
    Cluster::of(0, policy).await
}

/// So long nobody waits for an answer: a client that has no right to encrypt asks for it until it is told something.
const SILENCE: Duration = Duration::from_secs(3);

/// Cuts the application off, reports the key, and has the application encrypt until it does not any more.
async fn until_its_lease_ends(
    cluster: &Cluster,
    mut application: Encrypting,
    cut: impl Fn(),
) -> Encrypting {
    let services = &cluster.services;
    let first = key_id(services, "phi/1").await;
    application.tell();
    assert_eq!(application.answer(), Some(first));
    let lease = leases_end_within(services, "phi/1").await;
    cut();
    // It asked for what it holds before this.
    let ended = services.store.now().await.unwrap() + lease;
    let theft = said("phi/1", "a laptop is gone");
    report_compromise(services, &theft, &operator())
        .await
        .unwrap();
    let mut went_on = false;
    // Slow enough that it asks for no further encryptions, which nobody would give it.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        let asked = services.store.now().await.unwrap();
        application.tell();
        let Some(key) = application.answer_within(SILENCE) else {
            break;
        };
        assert_eq!(key, first, "it reaches nobody who gives it another");
        assert!(asked < ended, "encrypted {} past its lease", asked - ended);
        went_on = true;
    }
    assert!(went_on, "its lease held for a while");
    application.tell();
    assert_eq!(application.answer_within(SILENCE), None, "once more");
    application
}

async fn leases_end_within(services: &Services, key: &str) -> Duration {
    let key: KeyRef = key.parse().unwrap();
    let plan = compromise_plan(services, &key, &operator()).await;
    plan.unwrap().leases_end_within.unwrap()
}

async fn key_id(services: &Services, name: &str) -> KeyId {
    let keys = key_views(services, &operator()).await.unwrap();
    let key = keys.iter().find(|key| key.key.to_string() == name);
    key.unwrap().key_id
}
