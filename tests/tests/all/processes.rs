//! Many processes over PostgreSQL, RabbitMQ and a KMS, under exactly the rights they need.

use rekey_domain::RotationState;

use crate::cluster::{Cluster, Messages, Policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_over_rabbitmq_rotate_every_value_with_no_more_rights_than_granted() {
    let cluster = Cluster::of(2_000, Policy::default()).await;
    let workers = cluster.start_all(2);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!((view.moved, view.quarantined), (cluster.values(), 0));
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
    for worker in workers {
        worker.terminate().await;
    }
    assert_eq!(cluster.count("SELECT count(*) FROM lease").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_over_the_store_alone_share_the_batches() {
    let policy = Policy {
        messages: Messages::Local,
        ..Policy::default()
    };
    let cluster = Cluster::of(2_000, policy).await;
    let workers = cluster.start_all(2);
    cluster.rotate().await;
    let view = cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
    assert_eq!((view.moved, view.quarantined), (cluster.values(), 0));
    for worker in workers {
        worker.terminate().await;
    }
}
