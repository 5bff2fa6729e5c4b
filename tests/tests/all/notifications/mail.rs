//! Mail: by STARTTLS to a server whose certificate is trusted, or not at all.

use rekey_operations::{
    Services,
    notifications::{TestView, test_channels, test_outcome},
};
use rekey_testkit::{program, receivers::Receivers, tls::Authority};
use rekey_tests::{
    process::Process,
    support::{Deployment, operator, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_by_starttls_to_a_server_that_is_trusted_and_to_no_other() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let trusted = Receivers::start(Some(&ours.vouch_for("localhost")));
    let other = Receivers::start(Some(&stranger.vouch_for("localhost")));
    let clinic = Deployment::of(0).await;
    let servers = [
        ("trusted", trusted.port("smtp")),
        ("plain", trusted.port("plain")),
        ("stranger", other.port("smtp")),
    ];
    let text: String = servers
        .iter()
        .map(|(name, port)| {
            format!(
                "[[channel]]\nname = \"{name}\"\nkind = \"mail\"\nserver = \"localhost\"\nport = {port}\n\
                 from = \"rekey@clinic.example\"\nto = [\"gone@clinic.example\", \"ops@clinic.example\"]\n"
            )
        })
        .collect();
    std::fs::write(clinic.disks.state("rekey.toml"), text).unwrap();
    let config = rekey_runtime::config::Config::load(Some(&clinic.disks.state("rekey.toml")));
    clinic.apply_channels(config.unwrap().channels).await;
    let up = up(&clinic, &ours);
    let services = &clinic.services;
    for one in outcome(services, |one| one.sent.is_some()).await {
        let expected = one.channel.as_str() == "trusted";
        assert_eq!(
            one.sent,
            Some(expected),
            "{}: {:?}",
            one.channel,
            one.failure
        );
    }
    up.terminate().await;
    let [mail] = &trusted.at("mail")[..] else {
        panic!("{:?}", trusted.received());
    };
    assert_eq!(mail["tls"], true);
    // Somebody left, and the others are told.
    assert_eq!(mail["to"], serde_json::json!(["ops@clinic.example"]));
    let body = mail["body"].as_str().unwrap();
    for expected in ["Subject: [rekey] LOW TEST", "text/plain", "text/html"] {
        assert!(body.contains(expected), "{body}");
    }
    assert!(other.at("mail").is_empty());
}

/// Nobody gets it twice, and nobody is left out for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_takes_nothing_for_now_gets_it_later_and_the_others_once() {
    let ours = Authority::new();
    let trusted = Receivers::start(Some(&ours.vouch_for("localhost")));
    let clinic = Deployment::of(0).await;
    let text = format!(
        "[[channel]]\nname = \"trusted\"\nkind = \"mail\"\nserver = \"localhost\"\nport = {}\n\
         from = \"rekey@clinic.example\"\n\
         to = [\"late@clinic.example\", \"gone@clinic.example\", \"ops@clinic.example\"]\n",
        trusted.port("smtp")
    );
    std::fs::write(clinic.disks.state("rekey.toml"), text).unwrap();
    let config = rekey_runtime::config::Config::load(Some(&clinic.disks.state("rekey.toml")));
    clinic.apply_channels(config.unwrap().channels).await;
    let up = up(&clinic, &ours);
    outcome(&clinic.services, |one| one.sent == Some(true)).await;
    up.terminate().await;
    let to: Vec<_> = trusted
        .at("mail")
        .into_iter()
        .map(|mail| mail["to"].clone())
        .collect();
    assert_eq!(
        to,
        [
            serde_json::json!(["ops@clinic.example"]),
            serde_json::json!(["late@clinic.example"])
        ]
    );
}

/// A mailbox whose filter hangs, or makes the server drop the connection, is one of several.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_hangs_or_drops_the_connection_keeps_the_mail_from_no_other() {
    let ours = Authority::new();
    let trusted = Receivers::start(Some(&ours.vouch_for("localhost")));
    let clinic = Deployment::of(0).await;
    let text = format!(
        "[[channel]]\nname = \"trusted\"\nkind = \"mail\"\nserver = \"localhost\"\nport = {}\n\
         from = \"rekey@clinic.example\"\n\
         to = [\"hangs@clinic.example\", \"drops@clinic.example\", \"ops@clinic.example\", \"duty@clinic.example\"]\n",
        trusted.port("smtp")
    );
    std::fs::write(clinic.disks.state("rekey.toml"), text).unwrap();
    let config = rekey_runtime::config::Config::load(Some(&clinic.disks.state("rekey.toml")));
    clinic.apply_channels(config.unwrap().channels).await;
    let up = up(&clinic, &ours);
    test_channels(&clinic.services, None, &operator())
        .await
        .unwrap();
    // Whoever took it is not sent it again.
    let noted = "SELECT count(*) FROM delivery WHERE failure IS NOT NULL \
        AND answers LIKE '%ops@%' AND answers LIKE '%duty@%'";
    until("the end of the attempt", async || {
        (clinic.count(noted).await > 0).then_some(())
    })
    .await;
    up.terminate().await;
    let mut to: Vec<_> = trusted
        .at("mail")
        .into_iter()
        .map(|mail| mail["to"][0].as_str().unwrap().to_owned())
        .collect();
    to.sort_unstable();
    assert_eq!(to, ["duty@clinic.example", "ops@clinic.example"]);
}

/// Every worker in one process. Who is trusted is the process's own, as the system says it.
fn up(clinic: &Deployment, trusted: &Authority) -> Process {
    let mut command = std::process::Command::new(program("rekey"));
    command
        .arg("--state-dir")
        .arg(clinic.disks.state(""))
        .arg("up");
    command.current_dir(clinic.disks.state(""));
    command.env("SSL_CERT_FILE", trusted.file());
    Process::spawn(command)
}

/// What becomes of a test of every channel, once all of it is as `is_it` says.
async fn outcome(services: &Services, is_it: impl Fn(&TestView) -> bool) -> Vec<TestView> {
    let test = test_channels(services, None, &operator()).await.unwrap();
    until("every outcome", async || {
        let outcome = test_outcome(services, test, &operator()).await.unwrap();
        outcome.iter().all(&is_it).then_some(outcome)
    })
    .await
}
