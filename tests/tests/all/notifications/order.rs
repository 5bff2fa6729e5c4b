//! What is told of one alert is told in order: no end of an earlier occasion after a later beginning, whoever was away and whatever was tried again.

use rekey_domain::Severity;
use rekey_testkit::receivers::Receivers;
use rekey_tests::support::{Deployment, Engine, until};
use serde_json::Value;

use super::channels::{data, pager, pager_at, tells, webhook};

/// An alert of a kind that nobody reads off rows, so that nobody clears it.
struct Alert<'a> {
    clinic: &'a Deployment,
    receivers: &'a Receivers,
    path: &'a str,
}

impl Alert<'_> {
    async fn set(&self, change: &str) {
        let change = format!("UPDATE alert SET {change} WHERE kind = 'UNKNOWN_KEY_REPORTED'");
        assert_eq!(self.clinic.in_store(sqlx::AssertSqlSafe(change)).await, 1);
    }

    async fn raised(&self, severity: &str, hour: u32) {
        let exists = "SELECT count(*) FROM alert WHERE kind = 'UNKNOWN_KEY_REPORTED'";
        if self.clinic.count(exists).await == 0 {
            let raised = "INSERT INTO alert (id, kind, subject, figure, severity, raised_at) \
                VALUES (randomblob(16), 'UNKNOWN_KEY_REPORTED', 'phi/1', 0, 'HIGH', '2026-11-30T00:00:00+00:00')";
            self.clinic.in_store(raised).await;
        }
        self.set(&format!(
            "severity = '{severity}', cleared_at = NULL, raised_at = '2026-11-30T{hour:02}:00:00+00:00'"
        ))
        .await;
    }

    async fn cleared(&self) {
        self.set("cleared_at = '2026-11-30T23:00:00+00:00'").await;
    }

    /// What was told of it, as PagerDuty has it.
    fn told(&self) -> Vec<String> {
        let told = self
            .receivers
            .at(self.path)
            .into_iter()
            .map(|one| data(&one));
        let ours = told.filter(|one| one["payload"]["class"] == "UNKNOWN_KEY_REPORTED");
        let words = |one: Value| {
            let word = |one: &Value| one.as_str().unwrap().to_owned();
            format!(
                "{} {}",
                word(&one["event_action"]),
                word(&one["payload"]["severity"])
            )
        };
        ours.map(words).collect()
    }

    async fn is_told(&self, expected: &[&str]) {
        until("what is told of it", async || {
            (self.told() == expected).then_some(())
        })
        .await;
    }

    /// Nothing of it is on its way, or will be.
    async fn is_settled(&self) {
        let due = "SELECT count(*) FROM delivery WHERE about = 'alert' AND state = 'DUE' \
            AND subject_id IN (SELECT id FROM alert WHERE kind = 'UNKNOWN_KEY_REPORTED')";
        until("the last of it", async || {
            (self.clinic.count(due).await == 0).then_some(())
        })
        .await;
    }
}

fn alert<'a>(clinic: &'a Deployment, receivers: &'a Receivers, path: &'a str) -> Alert<'a> {
    Alert {
        clinic,
        receivers,
        path,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_over_and_began_again_while_nobody_told_is_told_as_begun() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let alert = alert(&clinic, &receivers, "ok/pager");
    let channels = vec![pager(&clinic, &receivers, Severity::Low)];
    let engine = tells(&clinic, channels.clone()).await;
    alert.raised("CRITICAL", 1).await;
    alert.is_told(&["trigger critical"]).await;
    alert.is_settled().await;
    engine.stop().await;
    alert.cleared().await;
    alert.raised("CRITICAL", 2).await;
    let mut engine = Engine::start(&clinic.services);
    engine.notifier(&clinic.services, channels);
    alert
        .is_told(&["trigger critical", "trigger critical"])
        .await;
    alert.is_settled().await;
    alert.cleared().await;
    alert
        .is_told(&["trigger critical", "trigger critical", "resolve critical"])
        .await;
    alert.is_settled().await;
    assert_eq!(alert.told().len(), 3);
    engine.stop().await;
}

/// A person who saw the lower severity cleared would think that it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_more_severe_is_told_again_and_not_as_over() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let alert = alert(&clinic, &receivers, "ok/pager");
    let engine = tells(&clinic, vec![pager(&clinic, &receivers, Severity::Low)]).await;
    alert.raised("HIGH", 1).await;
    alert.is_told(&["trigger error"]).await;
    alert.raised("CRITICAL", 2).await;
    alert.is_told(&["trigger error", "trigger critical"]).await;
    alert.is_settled().await;
    alert.cleared().await;
    alert
        .is_told(&["trigger error", "trigger critical", "resolve critical"])
        .await;
    engine.stop().await;
}

/// What began again and was over before anybody was told of that leaves the first to be ended, as what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_as_severe_as_what_ended() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let alert = alert(&clinic, &receivers, "ok/pager");
    let channels = vec![pager(&clinic, &receivers, Severity::Low)];
    let engine = tells(&clinic, channels.clone()).await;
    alert.raised("HIGH", 1).await;
    alert.is_told(&["trigger error"]).await;
    alert.is_settled().await;
    engine.stop().await;
    alert.raised("CRITICAL", 2).await;
    alert.cleared().await;
    let mut engine = Engine::start(&clinic.services);
    engine.notifier(&clinic.services, channels);
    alert.is_told(&["trigger error", "resolve error"]).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_tried_again_is_dropped_once_the_alert_has_begun_anew() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let alert = alert(&clinic, &receivers, "noends/pager");
    let channels = vec![pager_at(&clinic, &receivers, Severity::Low, "noends/pager")];
    let engine = tells(&clinic, channels).await;
    alert.raised("CRITICAL", 1).await;
    alert.is_told(&["trigger critical"]).await;
    alert.cleared().await;
    until("an end that failed", async || {
        let failed = "SELECT count(*) FROM delivery WHERE event = 'ended' AND failure IS NOT NULL";
        (clinic.count(failed).await == 1).then_some(())
    })
    .await;
    alert.raised("CRITICAL", 2).await;
    alert.is_settled().await;
    let told = alert.told();
    assert_eq!(
        told.iter().filter(|one| one.starts_with("trigger")).count(),
        2,
        "{told:?}"
    );
    assert_eq!(told.last().unwrap(), "trigger critical", "{told:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_waits_for_the_end_that_is_on_its_way() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let alert = alert(&clinic, &receivers, "slow/ops");
    let engine = tells(
        &clinic,
        vec![webhook("ops", &clinic, &receivers, "slow/ops")],
    )
    .await;
    alert.raised("CRITICAL", 1).await;
    let told = |kind: &str| {
        let mut told = receivers.at("slow/ops");
        told.retain(|one| {
            data(one)["type"] == kind && data(one)["data"]["kind"] == "UNKNOWN_KEY_REPORTED"
        });
        told
    };
    until("its beginning", async || {
        (!told("alert.raised").is_empty()).then_some(())
    })
    .await;
    alert.is_settled().await;
    alert.cleared().await;
    let end = until("its end", async || told("alert.cleared").pop()).await;
    alert.raised("CRITICAL", 2).await;
    let again = until("its beginning again", async || {
        let told = told("alert.raised");
        (told.len() == 2).then(|| told[1].clone())
    })
    .await;
    let at = |one: &Value| one["at"].as_f64().unwrap();
    assert!(at(&again) - at(&end) >= 2.9, "{end:#} {again:#}");
    engine.stop().await;
}
