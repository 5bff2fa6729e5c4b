//! Ten thousand alerts at once: ten messages, one digest, and nothing lost.

use std::collections::HashSet;

use rekey_domain::Severity;
use rekey_testkit::receivers::Receivers;
use rekey_tests::support::{Deployment, until};
use serde_json::Value;

use super::channels::{data, pager, tells, webhook};

const MANY: i64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_alerts_ten_go_by_themselves_and_the_rest_in_one_digest_that_ends_with_them()
 {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    // Of a kind that nobody reads off rows, so that nobody clears them.
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
        INSERT INTO alert (id, kind, subject, figure, severity, raised_at) \
        SELECT randomblob(16), 'UNKNOWN_KEY_REPORTED', 'phi/' || n, 0, 'HIGH', '2026-11-30T00:00:00+00:00' FROM n";
    assert_eq!(clinic.in_store(many).await, MANY.unsigned_abs());
    let ops = webhook("ops", &clinic, &receivers, "ok/ops");
    let engine = tells(&clinic, vec![ops]).await;
    let types = || {
        let told = receivers.at("ok/ops").into_iter();
        told.map(|one| data(&one)).collect::<Vec<_>>()
    };
    let digest = until("the digest", async || {
        types()
            .into_iter()
            .find(|one| one["type"] == "digest.raised")
    })
    .await;
    let raised = |one: &&Value| one["type"] == "alert.raised";
    assert_eq!(types().iter().filter(raised).count(), 10);
    assert_eq!(digest["data"]["kinds"][0]["kind"], "UNKNOWN_KEY_REPORTED");
    until("all are told", async || {
        let due = "SELECT count(*) FROM delivery WHERE state = 'DUE'";
        let planned = "SELECT count(*) FROM delivery WHERE about = 'alert'";
        (clinic.count(planned).await == MANY && clinic.count(due).await == 0).then_some(())
    })
    .await;
    // What is told a minute later is in another digest, if it was not ready for the first.
    let in_digests = "SELECT count(*) FROM delivery WHERE state = 'DIGESTED'";
    assert_eq!(clinic.count(in_digests).await, MANY - 10);
    assert_eq!(types().iter().filter(raised).count(), 10);
    clinic
        .in_store("UPDATE alert SET cleared_at = '2026-11-30T01:00:00.000+00:00'")
        .await;
    until("the end of the digest", async || {
        types()
            .into_iter()
            .find(|one| one["type"] == "digest.cleared")
    })
    .await;
    engine.stop().await;
}

/// PagerDuty ends what it was told by its key, and a digest has another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_what_was_told_by_itself_is_told_by_itself_however_many_end_at_once() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let engine = tells(&clinic, vec![pager(&clinic, &receivers, Severity::Low)]).await;
    let some = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9) \
        INSERT INTO alert (id, kind, subject, figure, severity, raised_at) \
        SELECT randomblob(16), 'UNKNOWN_KEY_REPORTED', 'phi/' || n, 0, 'HIGH', '2026-11-30T00:00:00+00:00' FROM n";
    clinic.in_store(some).await;
    let keys = |action: &str| {
        let told = receivers.at("ok/pager").into_iter();
        let told = told.map(|one| data(&one));
        let told = told.filter(|one| one["event_action"] == action);
        let told = told.map(|one| one["dedup_key"].to_string());
        told.collect::<HashSet<_>>()
    };
    until("all nine", async || {
        (keys("trigger").len() >= 9).then_some(())
    })
    .await;
    let over = "UPDATE alert SET cleared_at = '2026-11-30T01:00:00.000+00:00' WHERE kind = 'UNKNOWN_KEY_REPORTED'";
    clinic.in_store(over).await;
    until("the ends", async || {
        // A minute later, again and again.
        let earlier = "UPDATE delivery SET last_attempt_at = last_attempt_at - 61000";
        clinic.in_store(earlier).await;
        (keys("resolve").len() >= 9).then_some(())
    })
    .await;
    engine.stop().await;
    let digest = |key: &String| key.contains("digest");
    assert!(!keys("trigger").iter().any(digest), "{:?}", keys("trigger"));
    assert!(keys("trigger").is_superset(&keys("resolve")));
}
