//! An application's process, as this one talks to it: a line each way.

use std::process::Stdio;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{PATIENCE, Reporter, application::Task};

/// A running application; dropped, it is killed.
pub struct Beside {
    _child: Child,
    says: Lines<BufReader<ChildStdout>>,
    hears: ChildStdin,
}

impl Beside {
    /// Starts it, and waits until it has reached everything. What `reached_by` names replaces its URLs.
    pub async fn start(
        reporter: &Reporter<'_>,
        task: Task,
        reached_by: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let [state, config] = reporter.deployment.places();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["application", task.name()])
            .arg(state)
            .arg(config)
            .env("REKEY_TEST_POSTGRES_URL", &reporter.args.postgres_url)
            .env("REKEY_TEST_AMQP_URL", &reporter.args.amqp_url)
            .envs(reached_by.iter().map(|(name, url)| (name, url)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let says = child.stdout.take().context("its output is ours")?;
        let hears = child.stdin.take().context("its input is ours")?;
        let mut started = Self {
            _child: child,
            says: BufReader::new(says).lines(),
            hears,
        };
        started.hear::<()>().await?;
        Ok(started)
    }

    /// Tells it a line, such as a keyring.
    pub async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.hears.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Waits for what it says next.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = timeout(PATIENCE, self.says.next_line()).await;
        let Some(line) = line.context("an application says nothing")?? else {
            bail!("an application ended before its time");
        };
        Ok(serde_json::from_str(&line)?)
    }
}
