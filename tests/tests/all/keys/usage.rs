//! Encryptions under a key are counted, and bounded: SP 800-38D §8.3.

use std::sync::Arc;

use rekey_broker::LocalTransport;
use rekey_domain::{KeyState, KeyringPolicy, PLAN_LIMIT, RotationState, Worker};
use rekey_tests::support::{Deployment, Engine, phi, short};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_rotates_itself_when_applications_used_its_key_enough_and_moving_rows_does_not_count()
 {
    let policy = KeyringPolicy {
        max_encryptions: 1,
        ..short()
    };
    let clinic = Deployment::with(50, policy).await;
    let local = Arc::new(LocalTransport::new(clinic.services.store.clone()));
    let mut engine = Engine::default();
    engine.listen(&clinic.services, local.clone());
    let re_encryptor = clinic.process(Worker::ReEncryptor.name()).await;
    engine.re_encryptor(&re_encryptor, local.clone());
    engine.rotator(&clinic.services, local);
    engine.scheduler(&clinic.services);
    let rotation = clinic.completes().await;
    assert_eq!(rotation.reason, "usage");
    let keys = clinic.keys(&phi()).await;
    let primary = keys.iter().find(|key| key.state == KeyState::Active);
    let primary = primary.unwrap();
    assert_eq!(primary.key.to_string(), "phi/2");
    assert!(primary.used > 0);
    assert_eq!(primary.used_by_applications, 0);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_does_not_fit_under_the_target_key_is_refused_with_advice() {
    let clinic = Deployment::of(50).await;
    let rows = clinic.patients().await;
    // As if another 9/10 of what a key may encrypt were in the tables, but for a few.
    let used = i64::try_from(PLAN_LIMIT - 20).unwrap();
    let spend = sqlx::query("UPDATE key SET used = ? WHERE state = 'PENDING'").bind(used);
    spend.execute(&clinic.store).await.unwrap();
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let failed = clinic.reaches(&phi(), RotationState::Failed).await;
    let why = failed.failure.unwrap();
    assert!(why.contains("split the keyring"), "{why}");
    assert_eq!(clinic.patients().await, rows);
    engine.stop().await;
}
