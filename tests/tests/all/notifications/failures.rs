//! Receivers that fail: tried again, given up, told by the others; nothing is sent where it may not go.

use rekey_domain::Severity;
use rekey_operations::notifications::{channel_views, test_channels, test_outcome};
use rekey_runtime::config::{ChannelConfig, ReceiverConfig};
use rekey_testkit::receivers::{Receivers, SECRET};
use rekey_tests::{
    process::Process,
    support::{Deployment, operator, until},
};
use serde_json::Value;

use super::channels::{channel, data, leaks, pager, private, tells, webhook};

async fn tested(clinic: &Deployment, name: &str) -> (Option<bool>, String) {
    let name = name.parse().unwrap();
    let services = &clinic.services;
    let test = test_channels(services, Some(&name), &operator())
        .await
        .unwrap();
    until("the outcome", async || {
        let outcome = test_outcome(services, test, &operator()).await.unwrap();
        let one = outcome.into_iter().next()?;
        one.sent
            .map(|_| (one.sent, one.failure.unwrap_or_default()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_answers_decides_whether_it_is_tried_again_and_is_never_shown() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let answers = ["ok", "500", "404", "410", "redirect", "large", "later"];
    let hooks = answers.map(|answer| {
        let name = format!("a{answer}");
        webhook(&name, &clinic, &receivers, &format!("{answer}/{name}"))
    });
    let engine = tells(&clinic, hooks.to_vec()).await;
    let expected = [
        // Before the others fail, which it would be told of first.
        ("later", Some(false), "answered 429"),
        ("ok", Some(true), ""),
        // A gigabyte is not read.
        ("large", Some(true), ""),
        ("500", Some(false), "answered 500"),
        ("404", Some(false), "answered 404"),
        ("410", Some(false), "answered 410"),
        ("redirect", Some(false), "not followed"),
    ];
    for (answer, sent, why) in expected {
        let (found, said) = tested(&clinic, &format!("a{answer}")).await;
        assert_eq!(found, sent, "{answer}: {said}");
        assert!(said.contains(why), "{answer}: {said}");
    }
    // Asked for three seconds, it gets them, and the next attempt is the same message, signed anew.
    let again = until("another attempt", async || {
        let mut attempts = receivers.at("later/alater");
        attempts.retain(|one| one["body"].as_str().unwrap().contains("\"TEST\""));
        (attempts.len() == 2).then_some(attempts)
    })
    .await;
    let at = |one: &Value| one["at"].as_f64().unwrap();
    assert!(at(&again[1]) - at(&again[0]) >= 3.0);
    let header = |at: usize, name: &str| again[at]["headers"][name].clone();
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"));
    assert_ne!(
        header(0, "webhook-signature"),
        header(1, "webhook-signature")
    );
    assert_eq!(again[1]["verified"], true);
    // What is final is tried once.
    for answer in ["404", "410", "redirect"] {
        let tried = receivers.at(&format!("{answer}/a{answer}"));
        let ids = tried
            .iter()
            .map(|one| one["headers"]["webhook-id"].to_string());
        let ids: Vec<_> = ids.collect();
        let all: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(all.len(), ids.len(), "{answer}: {ids:?}");
    }
    let views = channel_views(&clinic.services, &operator()).await.unwrap();
    let gone = views
        .iter()
        .find(|one| one.name.as_str() == "a410")
        .unwrap();
    assert!(gone.disabled_at.is_some());
    // The others are told of each that takes nothing.
    until("the dead channels", async || {
        let told = receivers.at("ok/aok");
        let about = |name: &str| {
            told.iter().any(|one| {
                let body = one["body"].as_str().unwrap();
                body.contains("CHANNEL_DEAD") && body.contains(&format!("\"{name}\""))
            })
        };
        ["a404", "a410", "aredirect"]
            .into_iter()
            .all(about)
            .then_some(())
    })
    .await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_hangs_or_drips_delays_no_other_and_is_given_up_on_in_time() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let hooks = ["hang", "drip", "ok"].map(|answer| webhook(answer, &clinic, &receivers, answer));
    let engine = tells(&clinic, hooks.to_vec()).await;
    let began = std::time::Instant::now();
    leaks(&clinic).await;
    until("the one that works", async || {
        (!receivers.at("ok").is_empty()).then_some(())
    })
    .await;
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    for name in ["hang", "drip"] {
        let why = until("a failure", async || {
            let views = channel_views(&clinic.services, &operator()).await.unwrap();
            let one = views.into_iter().find(|one| one.name.as_str() == name);
            one.unwrap().failure
        })
        .await;
        assert!(why.contains("15 s"), "{name}: {why}");
    }
    engine.stop().await;
}

/// PagerDuty is told of a test's end too, and only after the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_reaches_pagerduty_and_is_ended_there() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let engine = tells(&clinic, vec![pager(&clinic, &receivers, Severity::Low)]).await;
    assert_eq!(tested(&clinic, "pager").await.0, Some(true));
    let actions = || {
        let told = receivers.at("ok/pager").into_iter().map(|one| data(&one));
        told.map(|one| one["event_action"].clone())
            .collect::<Vec<_>>()
    };
    until("its end", async || {
        actions().contains(&"resolve".into()).then_some(())
    })
    .await;
    let of_test = receivers.at("ok/pager");
    let is_test = |one: &&Value| one["body"].as_str().unwrap().contains("TEST");
    let first = of_test.iter().find(is_test).unwrap();
    assert_eq!(data(first)["event_action"], "trigger");
    engine.stop().await;
}

/// One refusal is final for a message, and not for what it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_presses_and_was_refused_is_told_once_the_channel_works() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let ops = webhook("ops", &clinic, &receivers, "denied/ops");
    let engine = tells(&clinic, vec![ops]).await;
    leaks(&clinic).await;
    let told = || {
        let mut told = receivers.at("denied/ops");
        told.retain(|one| one["body"].as_str().unwrap().contains("COMPROMISED"));
        told
    };
    until("the refusal", async || (told().len() == 1).then_some(())).await;
    let given_up = "SELECT count(*) FROM delivery WHERE state = 'DEAD' AND about = 'incident'";
    until("it is given up", async || {
        (clinic.count(given_up).await == 1).then_some(())
    })
    .await;
    assert_eq!(tested(&clinic, "ops").await.0, Some(true));
    until("it is told after all", async || {
        (told().len() == 2).then_some(())
    })
    .await;
    engine.stop().await;
}

/// Else the receiver learns of the end first, and the beginning stands open there for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_what_is_still_on_its_way_is_told_after_it_arrived() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let ops = webhook("ops", &clinic, &receivers, "slow/ops");
    let engine = tells(&clinic, vec![ops]).await;
    // Of a kind that nobody reads off rows, so that nobody clears it.
    let raised = "INSERT INTO alert (id, kind, subject, figure, severity, raised_at) \
        VALUES (randomblob(16), 'UNKNOWN_KEY_REPORTED', 'phi/1', 0, 'CRITICAL', '2026-11-30T00:00:00+00:00')";
    clinic.in_store(raised).await;
    let told = |kind: &str| {
        let mut told = receivers.at("slow/ops");
        told.retain(|one| {
            let body = data(one);
            body["type"] == kind && body["data"]["kind"] == "UNKNOWN_KEY_REPORTED"
        });
        told
    };
    let begins = until("its beginning", async || told("alert.raised").pop()).await;
    clinic
        .in_store("UPDATE alert SET cleared_at = '2026-11-30T01:00:00.000+00:00' WHERE kind = 'UNKNOWN_KEY_REPORTED'")
        .await;
    let ends = until("its end", async || told("alert.cleared").pop()).await;
    let at = |one: &Value| one["at"].as_f64().unwrap();
    assert!(at(&ends) - at(&begins) >= 3.0, "{begins:#} {ends:#}");
    assert_eq!(told("alert.raised").len(), 1);
    engine.stop().await;
}

/// What was on its way when the process died comes again, under the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_sending_and_noting_it_sends_the_same_again() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let ops = webhook("ops", &clinic, &receivers, "ok/ops");
    clinic.apply_channels(vec![ops.clone()]).await;
    file(&clinic, &ops);
    let mut dying = Process::up(&clinic.disks, Some("notifier.sent"));
    leaks(&clinic).await;
    assert!(!dying.end().await.expect("it dies").success());
    let again = Process::up(&clinic.disks, None);
    // It is told of other things too, as that a worker was silent meanwhile.
    let incidents = || {
        let mut received = receivers.at("ok/ops");
        received.retain(|one| one["body"].as_str().unwrap().contains("COMPROMISED"));
        received
    };
    let ids: Vec<Value> = until("the same again", async || {
        let received = incidents();
        let ids = received
            .iter()
            .map(|one| one["headers"]["webhook-id"].clone());
        let ids: Vec<_> = ids.collect();
        (ids.len() >= 2).then_some(ids)
    })
    .await;
    again.terminate().await;
    assert_eq!(ids[0], ids[1]);
    assert_eq!(incidents().len(), 2, "and not a third time");
}

/// The configuration of a process that has this channel.
pub fn file(clinic: &Deployment, channel: &ChannelConfig) {
    let ReceiverConfig::Webhook {
        url_file,
        secret_file,
        ..
    } = &channel.receiver
    else {
        panic!("a webhook");
    };
    let text = format!(
        "[[channel]]\nname = \"{}\"\nkind = \"webhook\"\nurl_file = {url_file:?}\nsecret_file = {secret_file:?}\nallow_private = true\n",
        channel.name
    );
    std::fs::write(clinic.disks.state("rekey.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_may_not_go_or_what_is_no_secret_nothing_is_sent_and_the_reason_names_the_key() {
    let receivers = Receivers::start(None);
    let clinic = Deployment::of(0).await;
    let folder = clinic.disks.state("");
    let with = |name: &str, url: &str, secret: &str, allow_private| {
        let receiver = ReceiverConfig::Webhook {
            url_file: private(&folder, &format!("{name}.url"), url),
            secret_file: private(&folder, &format!("{name}.secret"), secret),
            allow_private,
        };
        channel(name, Severity::Low, receiver)
    };
    let home = receivers.url("ok/home");
    let hooks = vec![
        with("home", &home, SECRET, false),
        with("private", "https://192.168.7.7/x", SECRET, false),
        with("metadata", "https://169.254.169.254/x", SECRET, true),
        with("name", "https://localhost/x", SECRET, false),
        with("nowhere", "https://no-such-host.invalid/x", SECRET, false),
        with(
            "login",
            "https://ana:hunter2@hooks.example/x",
            SECRET,
            false,
        ),
        with("short", &home, "whsec_c2hvcnQ=", true),
        with("blank", &home, " ", true),
        with("open", &home, SECRET, true),
        with("gone", &home, SECRET, true),
        with("pipe", &home, SECRET, true),
        with("lines", &format!("{home}\n{home}"), SECRET, true),
    ];
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.join("open.secret"), open).unwrap();
    std::fs::remove_file(folder.join("gone.secret")).unwrap();
    // Whoever opens it waits for a writer.
    std::fs::remove_file(folder.join("pipe.secret")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.join("pipe.secret"))
        .status();
    assert!(made.unwrap().success());
    let engine = tells(&clinic, hooks).await;
    for (name, why) in [
        ("home", "url_file"),
        ("private", "is private"),
        ("metadata", "nothing is ever sent"),
        ("name", "is private"),
        ("nowhere", "does not resolve"),
        ("login", "a user or a password"),
        ("short", "secret_file"),
        ("blank", "is empty"),
        ("open", "chmod"),
        ("gone", "cannot be read"),
        ("pipe", "is no regular file"),
        ("lines", "more than one line"),
    ] {
        let (sent, said) = tested(&clinic, name).await;
        assert_eq!(sent, Some(false), "{name}");
        assert!(
            said.contains(why) && !said.contains("hunter2"),
            "{name}: {said}"
        );
    }
    engine.stop().await;
    assert_eq!(receivers.received(), Vec::<Value>::new());
}
