//! Programs of ours as processes that are started, signalled and waited for.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_testkit::program;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Disks, PATIENCE, until};

/// What a process says is kept up to here, for a test that fails.
const LINES_KEPT: usize = 200;

/// A running program; dropped, it is killed.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Every worker of the deployment, in one process that dies at the crash point, if one is named.
    pub fn up(disks: &Disks, crash_at: Option<&str>) -> Self {
        let mut command = Command::new(program("rekey"));
        command.arg("--state-dir").arg(disks.state("")).arg("up");
        command.current_dir(disks.state(""));
        if let Some(point) = crash_at {
            command.env("REKEY_CRASH_AT", point);
        }
        Self::spawn(command)
    }

    /// Starts a program and listens to what it logs.
    pub fn spawn(mut command: Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = quiet.stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                if kept.len() == LINES_KEPT {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
        Self { child, said }
    }

    /// The last lines it logged.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits until its health endpoint answers with this status; what it says then.
    pub async fn answers(&self, path: &str, status: u16) -> String {
        let place = self.listens().await;
        until(&format!("{path} to answer {status}"), async || {
            let (found, said) = get(&place, path).await?;
            (found == status).then_some(said)
        })
        .await
    }

    async fn listens(&self) -> String {
        until("a worker's address", async || {
            let said = self.said();
            let line = said.iter().find(|line| line.contains("listen="))?;
            let (_, place) = line.split_once("listen=")?;
            Some(place.split_whitespace().next()?.to_owned())
        })
        .await
    }

    /// What it measures, with labels as they are printed: `rekey_batches_total{outcome="done"}`.
    pub async fn metrics(&self) -> HashMap<String, f64> {
        let said = self.answers("/metrics", 200).await;
        let lines = said.lines().filter(|line| line.starts_with("rekey_"));
        let read = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        lines.filter_map(read).collect()
    }

    /// The most memory that it ever had in use, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{signal}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; `None` when that takes too long.
    pub async fn end(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Asks it to end, and waits until it has ended well.
    pub async fn terminate(mut self) {
        // Before it says so, it does not listen for signals yet.
        until("it to listen", async || {
            let said = self.said();
            let listens = |line: &String| line.contains("running") || line.contains("started");
            said.iter().any(listens).then_some(())
        })
        .await;
        self.signal("TERM");
        let status = self.end().await.expect("SIGTERM ends it");
        assert!(status.success(), "SIGTERM: {status}: {:#?}", self.said());
    }
}

/// The status and the body that a GET answers with.
async fn get(place: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(place).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

impl Drop for Process {
    #[expect(clippy::print_stdout, reason = "a test that failed is read with this")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", self.said().join("\n"));
        }
    }
}
