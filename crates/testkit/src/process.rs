//! Processes of services: in groups of their own, and gone with whoever started them.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// How often to look again for what takes its time to come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running service. Dropped, it is killed with everything in its process group.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a command, with its output in `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let shown = command.get_program().to_string_lossy().into_owned();
        let open = || File::options().create(true).append(true).open(log);
        let output = |error| format!("{}: {error}", log.display());
        let (out, err) = (open().map_err(output)?, open().map_err(output)?);
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|error| format!("{shown}: {error}"))?;
        let log = log.to_owned();
        Ok(Self { child, log })
    }

    /// Waits until it is `ready`.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<(), String> {
        let log = self.log.clone();
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        wait_until(ready, || !self.has_ended(), said)
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks it to end, and kills it if it does not soon.
    pub(crate) fn end(&mut self, signal: Signal) {
        let _ = kill(self.pid(), signal);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
    }

    /// Kills it, its group and its children, as `kill -9` does: PostgreSQL's sessions have groups of
    /// their own.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        let _ = killpg(self.pid(), Signal::SIGKILL);
        for child in children {
            let _ = kill(child, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.pid();
        let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let listed = listed.unwrap_or_default();
        let children = listed.split_whitespace().filter_map(|id| id.parse().ok());
        children.map(Pid::from_raw).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a service is `ready`, as long as it is `running`; the error ends with the end of what it `said`.
pub(crate) fn wait_until(
    ready: impl Fn() -> bool,
    mut running: impl FnMut() -> bool,
    said: impl FnOnce() -> String,
) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready() {
        let why = match (running(), Instant::now() > deadline) {
            (false, _) => "it ended at once",
            (true, true) => "it did not become ready",
            (true, false) => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
        };
        let said = said();
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        return Err(format!("{why}: {last}"));
    }
    Ok(())
}

/// Runs `command` to its end; its output is shown only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{name}: {}: {}",
        output.status,
        String::from_utf8_lossy(&said)
    ))
}

/// A port of the loopback interface that nobody listens on now.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let port = listener.and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// Whether HTTP on this port answers `GET path` with success; `credentials` are base64.
pub(crate) fn answers(port: u16, path: &str, credentials: Option<&str>) -> bool {
    status(port, path, credentials).is_ok_and(|status| status.ends_with(b" 200"))
}

/// Whether HTTP on this port answers, whatever it is.
pub(crate) fn speaks_http(port: u16) -> bool {
    status(port, "/", None).is_ok_and(|status| status.starts_with(b"HTTP/1"))
}

fn status(port: u16, path: &str, credentials: Option<&str>) -> std::io::Result<[u8; 12]> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let authorization = credentials
        .map(|credentials| format!("Authorization: Basic {credentials}\r\n"))
        .unwrap_or_default();
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: localhost\r\n{authorization}\r\n"
    )?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status)
}
