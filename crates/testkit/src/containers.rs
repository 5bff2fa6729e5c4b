//! Services in containers, by the `docker` command.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::process::{answers, run};

/// Pinned, so that a failure is ours and not a new release's.
const POSTGRES: &str = "postgres:17.6";
const RABBITMQ: &str = "rabbitmq:4.1.4-management";
const MOTO: &str = "motoserver/moto:5.2.5";

/// A running container. Dropped, it is removed with its data.
#[derive(Debug)]
pub struct Container {
    id: String,
}

/// Whether a Docker daemon answers.
pub fn are_possible() -> bool {
    let asked = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output();
    asked.is_ok_and(|asked| asked.status.success() && !asked.stdout.trim_ascii().is_empty())
}

/// PostgreSQL, and its URL as a superuser.
///
/// # Errors
/// What Docker said.
pub fn postgres() -> Result<(Container, String), String> {
    let settings = ["max_connections=300", "fsync=off", "wal_level=logical"];
    let settings = settings.iter().flat_map(|setting| ["-c", setting]);
    let command: Vec<_> = ["postgres"].into_iter().chain(settings).collect();
    let environment = ["POSTGRES_PASSWORD=postgres"];
    let container = Container::start(POSTGRES, &environment, &[5432], &command)?;
    let port = container.port(5432)?;
    // The server that sets up the database listens on no network.
    container.wait_until(|| {
        let ask = ["exec", &container.id, "pg_isready", "-q", "-h", "127.0.0.1"];
        run(Command::new("docker").args(ask)).is_ok()
    })?;
    let url = format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres");
    Ok((container, url))
}

/// RabbitMQ, and the URLs of the node and of its management API, as an administrator.
///
/// # Errors
/// What Docker said.
pub fn rabbitmq() -> Result<(Container, String, String), String> {
    let environment = ["RABBITMQ_DEFAULT_USER=admin", "RABBITMQ_DEFAULT_PASS=admin"];
    let container = Container::start(RABBITMQ, &environment, &[5672, 15672], &[])?;
    let (amqp, api) = (container.port(5672)?, container.port(15672)?);
    container.wait_until(|| answers(api, "/api/overview", Some("YWRtaW46YWRtaW4=")))?;
    let amqp = format!("amqp://admin:admin@127.0.0.1:{amqp}/%2f");
    let api = format!("http://admin:admin@127.0.0.1:{api}");
    Ok((container, amqp, api))
}

/// An AWS KMS emulator, and its URL.
///
/// # Errors
/// What Docker said.
pub fn kms() -> Result<(Container, String), String> {
    let container = Container::start(MOTO, &[], &[5000], &[])?;
    let port = container.port(5000)?;
    container.wait_until(|| answers(port, "/moto-api/", None))?;
    Ok((container, format!("http://127.0.0.1:{port}")))
}

impl Container {
    fn start(
        image: &str,
        environment: &[&str],
        ports: &[u16],
        command: &[&str],
    ) -> Result<Self, String> {
        let mut docker = Command::new("docker");
        docker.args(["run", "--detach", "--rm", "--label", "rekey-testkit"]);
        for variable in environment {
            docker.args(["--env", variable]);
        }
        for port in ports {
            docker.args(["--publish", &format!("127.0.0.1::{port}")]);
        }
        let id = run(docker.arg(image).args(command))?;
        Ok(Self { id })
    }

    /// The port of the loopback interface that leads to `inner`.
    fn port(&self, inner: u16) -> Result<u16, String> {
        let said = run(Command::new("docker").args(["port", &self.id, &inner.to_string()]))?;
        let port = said.lines().next().and_then(|line| line.rsplit_once(':'));
        let port = port.and_then(|(_, port)| port.parse().ok());
        port.ok_or_else(|| format!("docker port said {said:?}"))
    }

    fn wait_until(&self, ready: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !ready() {
            if Instant::now() > deadline {
                let logs = ["logs", "--tail", "15", &self.id];
                let said = run(Command::new("docker").args(logs)).unwrap_or_default();
                return Err(format!("it did not become ready: {said}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.id];
        let _ = run(Command::new("docker").args(remove));
    }
}
