//! An application in a process of its own: it reaches keys as any does, and says what it was given.

mod lapse;
mod read;
mod watch;

use std::{io::Write, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use rekey_deployment::{Places, background};
use rekey_domain::{KeyringName, Principal};
use rekey_runtime::config::Config;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

pub use self::{lapse::Lapse, read::Read, watch::Refusal};

/// What it is started with.
#[derive(Debug, clap::Args)]
pub struct Application {
    task: Task,
    state: PathBuf,
    config: PathBuf,
}

/// What it does.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Task {
    /// Encrypts with the keyrings that it is told of, one after the other.
    Watch,
    /// Encrypts with one keyring, as many applications, until their leases have ended.
    Lapse,
    /// Reads rows.
    Read,
}

impl Task {
    /// As an argument.
    pub fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Lapse => "lapse",
            Self::Read => "read",
        }
    }
}

/// What it hears, a line each.
type Told = UnboundedReceiver<String>;

impl Application {
    /// Does its task until its input ends.
    pub async fn run(&self) -> anyhow::Result<()> {
        let config = Config::load(Some(&self.config))?;
        let places = Places::resolve(Some(self.state.clone()), config)?;
        let services = places.connect(Principal::app("bench")).await?;
        let transport = places.transport(&services.store, "bench", &[], 0)?;
        let shutdown = CancellationToken::new();
        let client = services.client.clone();
        tokio::spawn(background(client, Arc::clone(&transport), shutdown));
        let mut told = listen();
        match self.task {
            Task::Watch => watch::run(&services.client, &mut told).await,
            Task::Lapse => lapse::run(&services, &transport, &mut told).await,
            Task::Read => {
                let source = places.config.sources.first().context("a source")?;
                read::run(&services, source.url.expose_url(), &mut told).await
            }
        }
    }
}

/// A thread of its own reads, as nothing else may wait for it.
fn listen() -> Told {
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Says a line to whoever started it.
fn say(line: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(line)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn keyring(name: &str) -> anyhow::Result<KeyringName> {
    match name.parse() {
        Ok(keyring) => Ok(keyring),
        Err(_) => bail!("{name} is no keyring"),
    }
}
