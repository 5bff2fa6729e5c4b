//! A report over PostgreSQL, RabbitMQ and a KMS, by whoever may, with exactly the rights that are printed for them.

use rekey_domain::RotationState;
use rekey_tests::{
    cluster::{Cluster, Messages, Policy},
    support::until,
};

/// The command line stops the key and puts another in its place by itself, whatever the keyring is in the middle of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_reports_a_key_with_no_more_rights_than_granted() {
    for messages in [Messages::RabbitMq, Messages::Local] {
        let policy = Policy {
            messages,
            ..Policy::default()
        };
        let cluster = Cluster::of(600, policy).await;
        let workers = cluster.start_all(1);
        let report =
            |key: &str| cluster.rekey(&["compromise", key, "--reason", "a laptop is gone"]);
        until("a standby that no failover loses", async || {
            let standbys = "SELECT count(*) FROM key k JOIN keyring r ON r.id = k.keyring_id \
                WHERE r.name = 'phi' AND k.state = 'PENDING' AND k.created_at < now() - interval '10 s'";
            (cluster.count(standbys).await > 0).then_some(())
        })
        .await;
        // Nothing is under way: the primary key is replaced.
        let said = report("phi/1");
        assert!(said.contains("phi/2 is primary"), "{said}");
        cluster.moves().await;
        // An emergency is: the next primary key is reported, and what replaced the first is superseded.
        let said = report("phi/2");
        assert!(said.contains("phi/2 is COMPROMISED"), "{said}");
        cluster.reaches(RotationState::Completed).await;
        for version in [1, 2] {
            assert_eq!(cluster.under(version).await, 0, "{version}");
        }
        assert_eq!(cluster.under(3).await, cluster.values());
        cluster.assert_reads_back().await;
        assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
        let closed =
            "SELECT count(*) FROM key WHERE state = 'COMPROMISED' AND closed_at IS NOT NULL";
        assert_eq!(cluster.count(closed).await, 2);
        for worker in workers {
            worker.terminate().await;
        }
    }
}
