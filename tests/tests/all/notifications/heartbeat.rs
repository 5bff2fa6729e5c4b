//! The ping to a service outside: only while people can be told.

use rekey_runtime::config::{MonitoringConfig, SecretUrl};
use rekey_testkit::receivers::Receivers;
use rekey_tests::support::{Deployment, Engine, until};

use super::channels::webhook;
use crate::command_line::Desk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ping_goes_out_while_a_channel_is_served_by_nobody() {
    let receivers = Receivers::start(None);
    let pings = |path: &str| MonitoringConfig {
        heartbeat_url: Some(SecretUrl::from(receivers.url(path))),
        heartbeat_allow_private: true,
        ..MonitoringConfig::default()
    };
    let (whole, torn) = tokio::join!(Deployment::of(0), Deployment::of(0));
    let channels = ["ops", "lost"];
    let of = |clinic| channels.map(|name| webhook(name, clinic, &receivers, &format!("ok/{name}")));
    let (all, some) = (of(&whole).to_vec(), of(&torn).to_vec());
    whole.apply_channels(all.clone()).await;
    torn.apply_channels(some.clone()).await;
    // The one that must not ping begins first.
    let mut without = Engine::start(&torn.services);
    without.monitor(&torn.services, some[..1].to_vec(), pings("ok/torn"));
    let mut with = Engine::start(&whole.services);
    with.monitor(&whole.services, all, pings("ok/whole"));
    until("a ping", async || {
        (!receivers.at("ok/whole").is_empty()).then_some(())
    })
    .await;
    with.stop().await;
    without.stop().await;
    assert!(receivers.at("ok/torn").is_empty());
}

#[tokio::test]
async fn a_heartbeat_url_that_may_not_be_asked_is_refused_when_it_is_applied() {
    let desk = Desk::new();
    desk.configure("[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let with = |url: &str| {
        desk.configure(&format!(
            "[monitoring]\nheartbeat_url = \"{url}\"\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n"
        ));
        desk.rekey(&["apply"], b"")
    };
    for url in [
        "http://hc.example/ping/hunter2",
        "https://10.0.0.7/ping/hunter2",
        "https://ana:hunter2@hc.example/",
    ] {
        let refused = with(url);
        assert_eq!(refused.code, 2, "{url}: {}", refused.stderr);
        let said = &refused.stderr;
        assert!(said.contains("monitoring.heartbeat_url"), "{url}: {said}");
        assert!(!said.contains("hunter2"), "{url}: {said}");
    }
    assert_eq!(with("https://hc.example/ping/hunter2").code, 0);
}
