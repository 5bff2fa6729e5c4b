//! Who is told in the demo: a webhook's receiver on this machine, as a team's own would be elsewhere.

use std::{
    fs::OpenOptions,
    future::IntoFuture,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, routing::post};
use rekey_deployment::Places;
use rekey_domain::{ChannelPolicy, Severity};
use rekey_envelope::encode_base64;
use rekey_runtime::config::{ChannelConfig, ReceiverConfig};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// An incident is told in a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

type Told = Arc<Mutex<Vec<Value>>>;

/// The receiver, listening.
pub struct Receiver {
    told: Told,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    /// Listens, and says by which channel it is reached.
    pub async fn start(places: &Places) -> anyhow::Result<(Self, ChannelConfig)> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context("the demo's receiver of notifications")?;
        let url = format!("http://{}/rekey", listener.local_addr()?);
        let secret = format!("whsec_{}", encode_base64(&rand::random::<[u8; 32]>()));
        let (url_file, secret_file) = (places.file("demo.url"), places.file("demo.secret"));
        write(&url_file, &url)?;
        write(&secret_file, &secret)?;
        let told = Told::default();
        let router = Router::new()
            .route("/rekey", post(take))
            .with_state(told.clone());
        let serving = tokio::spawn(axum::serve(listener, router).into_future());
        let channel = ChannelConfig {
            name: "demo".parse().map_err(anyhow::Error::msg)?,
            policy: ChannelPolicy {
                severity: Severity::Low,
                kinds: None,
            },
            receiver: ReceiverConfig::Webhook {
                url_file,
                secret_file,
                allow_private: true,
            },
        };
        Ok((Self { told, serving }, channel))
    }

    /// What came, a line each. Waits a little for the first.
    pub async fn told(self) -> Vec<String> {
        let since = Instant::now();
        while self.lines().is_empty() && since.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
        self.serving.abort();
        self.lines()
    }

    fn lines(&self) -> Vec<String> {
        let told = self.told.lock().expect("no holder panics");
        told.iter().map(line).collect()
    }
}

fn line(notice: &Value) -> String {
    let of = |name: &str| notice["data"][name].as_str().unwrap_or_default().to_owned();
    let happened = notice["type"].as_str().unwrap_or_default();
    format!(
        "{happened} {} {} {}",
        of("severity"),
        of("kind"),
        of("subject")
    )
}

async fn take(State(told): State<Told>, body: String) -> StatusCode {
    match serde_json::from_str(&body) {
        Ok(notice) => told.lock().expect("no holder panics").push(notice),
        Err(_) => return StatusCode::BAD_REQUEST,
    }
    StatusCode::NO_CONTENT
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let open = options.write(true).create(true).truncate(true).mode(0o600);
    let written = open
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}
