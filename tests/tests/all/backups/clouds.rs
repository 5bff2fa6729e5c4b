//! Destinations that are services: S3 and Azure, several at once, one of them away.

use rekey_testkit::{services, tls::http_client};
use rekey_tests::{process::Process, support::until};
use serde_json::Value;

use super::{alert, backups, no_alert, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_kept_at_s3_and_in_a_directory_and_one_that_is_away_stops_nothing() {
    let emulator = services::url(services::KMS);
    let bucket = format!("rekey-test-{}", uuid::Uuid::new_v4());
    let make = || http_client().put(format!("{emulator}/{bucket}")).send();
    let desk = quick("");
    let directory = desk.file("vault");
    let config = std::fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&format!(
        "{config}\n[[destination]]\nname = \"cloud\"\nurl = \"s3://{bucket}/rekey?region=us-east-1&endpoint={emulator}&allow-http=true\"\n[[destination]]\nname = \"vault\"\nurl = \"file://{}\"\n",
        directory.display()
    ));
    let command = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    };
    // The bucket is not there yet: one destination that acknowledged is enough.
    let made = command(&["init"]).output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let engine = Process::spawn(command(&["up"]));
    let raised = alert(&desk, "BACKUP_FAILED").await;
    assert_eq!(raised["subject"], "destination/cloud");
    let created = make().await.unwrap();
    assert!(created.status().is_success(), "{created:?}");
    let asked = command(&["backups", "create", "--wait"]).output().unwrap();
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stdout)
    );
    let proved = |at: &str| {
        let is_it = |one: &Value| {
            one["destination"] == at && !one["proved_at"].is_null() && one["problem"].is_null()
        };
        backups(&desk).iter().filter(|one| is_it(one)).count()
    };
    until("every key to be proved at both", async || {
        (proved("cloud") == 8 && proved("vault") == 8).then_some(())
    })
    .await;
    no_alert(&desk, "BACKUP_FAILED").await;
    engine.terminate().await;
}
