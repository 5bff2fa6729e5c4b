//! Programs of ours as processes that are started, signalled and waited for.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rekey_testkit::rekey_binary;

use crate::support::{Disks, PATIENCE};

/// A running `rekey up`; dropped, it is killed.
pub struct Process(Child);

impl Process {
    /// Every worker of the deployment, in one process that dies at the crash point, if one is named.
    pub fn up(disks: &Disks, crash_at: Option<&str>) -> Self {
        let mut command = Command::new(rekey_binary());
        command.arg("--state-dir").arg(disks.state("")).arg("up");
        command.current_dir(disks.state("")).env("REKEY_LOG", "off");
        if let Some(point) = crash_at {
            command.env("REKEY_CRASH_AT", point);
        }
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{signal}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; `None` when that takes too long.
    pub async fn end(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Asks it to end, and waits until it has ended well.
    pub async fn terminate(mut self) {
        self.signal("TERM");
        let status = self.end().await.expect("SIGTERM ends it");
        assert!(status.success(), "SIGTERM: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
