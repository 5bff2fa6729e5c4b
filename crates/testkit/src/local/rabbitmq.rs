//! A RabbitMQ node of one's own, which may be killed and started again on its data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{directory, find_or_install, is_file, on_path};
use crate::process::{Service, answers, free_port};

/// `admin:admin`, as HTTP says it.
const ADMIN: &str = "YWRtaW46YWRtaW4=";
/// Debian's own script; the one on the path insists on a user of its own.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A node with its management API on free ports of the loopback interface. Dropped, it is gone with
/// its data.
///
/// Its functions wait, and block the thread meanwhile.
#[derive(Debug)]
pub struct PrivateRabbitMq {
    node: Option<Service>,
    // After the node, which would start one of its own that outlives it.
    _names: Service,
    program: PathBuf,
    ports: Ports,
    // Dropped last.
    dir: TempDir,
}

#[derive(Debug)]
struct Ports {
    amqp: u16,
    api: u16,
    distribution: u16,
    names: u16,
}

impl PrivateRabbitMq {
    /// Makes a node and starts it; installs RabbitMQ where it is missing and that is allowed.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        let program = find_or_install(&["rabbitmq-server"], program)?;
        let dir = directory()?;
        let ports = Ports {
            amqp: free_port()?,
            api: free_port()?,
            distribution: free_port()?,
            names: free_port()?,
        };
        configure(dir.path(), &ports).map_err(|error| error.to_string())?;
        let mut node = Self {
            node: None,
            _names: name_server(dir.path(), &ports)?,
            program,
            ports,
            dir,
        };
        node.restart()?;
        Ok(node)
    }

    /// Its URL, as an administrator.
    pub fn amqp_url(&self) -> String {
        format!("amqp://admin:admin@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The URL of its management API.
    pub fn api_url(&self) -> String {
        format!("http://admin:admin@127.0.0.1:{}", self.ports.api)
    }

    /// Kills the node, as `kill -9` does. Its data stays.
    pub fn kill(&mut self) {
        self.node = None;
    }

    /// Starts it again on the same ports and data.
    ///
    /// # Errors
    /// What the node said.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let dir = self.dir.path();
        let mut command = Command::new(&self.program);
        // `localhost` resolves everywhere; a container's own name may not.
        let name = format!("rekey-{}@localhost", self.ports.amqp);
        for (variable, value) in [
            ("RABBITMQ_NODENAME", name),
            ("RABBITMQ_DIST_PORT", self.ports.distribution.to_string()),
            ("ERL_EPMD_PORT", self.ports.names.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ] {
            command.env(variable, value);
        }
        for (variable, place) in [
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_CONF_ENV_FILE", "no-environment"),
            ("HOME", "home"),
        ] {
            command.env(variable, dir.join(place));
        }
        command.current_dir(dir);
        let mut node = Service::start(command, &dir.join("output"))?;
        let api = self.ports.api;
        node.wait_until(|| answers(api, "/api/overview", Some(ADMIN)))?;
        self.node = Some(node);
        Ok(())
    }
}

fn configure(dir: &Path, ports: &Ports) -> std::io::Result<()> {
    for folder in ["mnesia", "log", "home"] {
        fs::create_dir(dir.join(folder))?;
    }
    let configuration = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {}\n\
         loopback_users = none\n\
         default_user = admin\n\
         default_pass = admin\n\
         default_user_tags.administrator = true\n\
         default_permissions.configure = .*\n\
         default_permissions.read = .*\n\
         default_permissions.write = .*\n\
         disk_free_limit.absolute = 50MB\n",
        ports.amqp, ports.api
    );
    fs::write(dir.join("rabbitmq.conf"), configuration)?;
    fs::write(dir.join("enabled_plugins"), "[rabbitmq_management].\n")
}

/// Erlang's name server. A node that finds none starts one that outlives it, so it gets one of ours.
fn name_server(dir: &Path, ports: &Ports) -> Result<Service, String> {
    let program = on_path("epmd").ok_or("epmd is not on the path; install erlang-base")?;
    let mut command = Command::new(program);
    command.args(["-port", &ports.names.to_string(), "-address", "127.0.0.1"]);
    let mut server = Service::start(command, &dir.join("names"))?;
    let port = ports.names;
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    server.wait_until(listens)?;
    Ok(server)
}

fn program() -> Option<PathBuf> {
    let debian = PathBuf::from(SERVER);
    if is_file(&debian) {
        Some(debian)
    } else {
        on_path("rabbitmq-server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_node_comes_back_with_its_data() {
        let mut node = PrivateRabbitMq::start().unwrap();
        let http = reqwest::Client::new();
        let queue = format!("{}/api/queues/%2f/kept", node.api_url());
        let durable = serde_json::json!({ "durable": true });
        let made = http.put(&queue).json(&durable).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        node.kill();
        assert!(http.get(&queue).send().await.is_err());
        node.restart().unwrap();
        let kept = http.get(&queue).send().await.unwrap();
        assert!(kept.status().is_success(), "{kept:?}");
    }
}
