//! The notifier as a process of its own, over PostgreSQL, with exactly the rights that are printed for it.

use rekey_domain::Worker;
use rekey_testkit::receivers::{Receivers, SECRET};
use rekey_tests::{
    cluster::{Cluster, Messages, Policy},
    support::until,
};

use super::channels::private;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_people_with_no_more_rights_than_granted_also_where_no_scheduler_works() {
    let receivers = Receivers::start(None);
    let policy = Policy {
        messages: Messages::Local,
        ..Policy::default()
    };
    let cluster = Cluster::of(20, policy).await;
    let url = private(cluster.folder(), "ops.url", &receivers.url("ok/ops"));
    let secret = private(cluster.folder(), "ops.secret", SECRET);
    cluster.configure(&format!(
        "[[channel]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = {url:?}\nsecret_file = {secret:?}\nallow_private = true\n"
    ));
    let notifier = cluster.start(Worker::IncidentNotifier);
    let tested = cluster.rekey(&["notify", "test", "ops"]);
    assert!(tested.contains("took it"), "{tested}");
    // Nobody else works, and it says so itself.
    let told = |what: &str| {
        let received = receivers.at("ok/ops");
        let about = |one: &serde_json::Value| one["body"].as_str().unwrap().contains(what);
        received.iter().any(about)
    };
    until("the alert", async || told("WORKER_SILENT").then_some(())).await;
    let shown = cluster.rekey(&["alerts", "list"]);
    assert!(shown.contains("scheduler"), "{shown}");
    // With a scheduler, that looks, by its own rights.
    let scheduler = cluster.start(Worker::Scheduler);
    until("the end of it", async || {
        let shown = cluster.rekey(&["alerts", "list"]);
        (!shown.contains("scheduler")).then_some(())
    })
    .await;
    cluster.rekey(&["compromise", "phi/1", "--reason", "seen in a paste"]);
    until("the incident", async || told("COMPROMISED").then_some(())).await;
    let denied = |process: &rekey_tests::process::Process| {
        let said = process.said();
        said.iter()
            .any(|line| line.contains("does not let us") || line.contains("right"))
    };
    assert!(!denied(&notifier), "{:#?}", notifier.said());
    assert!(!denied(&scheduler), "{:#?}", scheduler.said());
    notifier.terminate().await;
    scheduler.terminate().await;
}
