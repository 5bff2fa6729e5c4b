//! Destinations that are services: S3 and Azure, several at once, one of them away.

use rekey_testkit::{PrivateAzure, azure, services, tls::http_client};
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

/// With a signature that may create and not write, as `rekey grants` advises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_kept_at_azure_by_who_can_neither_write_over_nor_delete() {
    let (endpoint, account) = (services::url(services::AZURE), PrivateAzure::ACCOUNT);
    let container = azure::container().await;
    let desk = quick("");
    let config = std::fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&format!(
        "{config}\n[[destination]]\nname = \"cloud\"\nurl = \"az://{container}/rekey?account={account}&endpoint={endpoint}&allow-http=true\"\n"
    ));
    let signature = azure::signature("rcl");
    let command = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env("AZURE_STORAGE_SAS_TOKEN", &signature);
        command
    };
    let made = command(&["init"]).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    let engine = Process::spawn(command(&["up"]));
    until("every key to be proved", async || {
        let is_proved = |one: &Value| !one["proved_at"].is_null() && one["problem"].is_null();
        backups(&desk).iter().all(is_proved).then_some(())
    })
    .await;
    until("the destination to be tried", async || {
        let listed = desk.rekey(&["--output", "json", "backups", "list"], b"");
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        (listed["destinations"][0]["erasable"] == "no").then_some(())
    })
    .await;
    let printed = command(&["grants"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("--permissions crl"), "{printed}");
    engine.terminate().await;
}
