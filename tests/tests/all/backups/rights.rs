//! The verifier as a process of its own, over PostgreSQL and RabbitMQ, with exactly the rights that are printed for it.

use rekey_domain::{RotationState, Worker};
use rekey_tests::{
    cluster::{Cluster, Policy},
    support::until,
};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_backs_up_and_proves_with_no_more_rights_than_granted_and_rotations_wait_for_it() {
    let cluster = Cluster::of(60, Policy::default()).await;
    let vault = cluster.folder().join("vault");
    cluster.configure(&format!(
        "[[destination]]\nname = \"vault\"\nurl = \"file://{}\"\n",
        vault.display()
    ));
    let config = cluster.folder().join("rekey.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let required = text.replacen(
        "name = \"phi\"\n",
        "name = \"phi\"\nbackup = \"required\"\n",
        1,
    );
    std::fs::write(&config, required).unwrap();
    cluster.rekey(&["apply"]);
    cluster.grant_anew().await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    until("the rotation to say what it waits for", async || {
        let rotation = cluster.rotation().await?;
        let waits = rotation
            .waiting
            .iter()
            .any(|one| one.contains("the proof that phi/2"));
        waits.then_some(())
    })
    .await;
    let verifier = cluster.start(Worker::BackupVerifier);
    let done = cluster.reaches(RotationState::Completed).await;
    let listed = cluster.rekey(&["--output", "json", "backups", "list"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let of_old = listed["backups"].as_array().unwrap().iter();
    let old = of_old.clone().find(|one| one["key"] == "phi/1").unwrap();
    assert!(!old["proved_at"].is_null(), "{old} {}", done.id);
    let denied = |line: &String| line.contains("does not let us") || line.contains("permission");
    assert!(
        !verifier.said().iter().any(denied),
        "{:#?}",
        verifier.said()
    );
    verifier.terminate().await;
    for worker in workers {
        worker.terminate().await;
    }
    cluster.assert_reads_back().await;
}
