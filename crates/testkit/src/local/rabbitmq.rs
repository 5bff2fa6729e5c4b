//! A RabbitMQ node of one's own from the programs of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{directory, find_or_install, is_file, on_path};
use crate::{
    process::{Service, free_port},
    running::{Answers, Running},
    tls::Identity,
};

/// Debian's own script; the one on the path insists on a user of its own.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A node with its management API. Dropped, it is gone with its data.
pub(crate) struct RabbitMq {
    node: Option<Service>,
    // Dropped after the node, which would otherwise start a name server of its own that outlives it.
    _names: Service,
    program: PathBuf,
    ports: Ports,
    answers: Answers,
    // Dropped last.
    dir: TempDir,
}

struct Ports {
    amqp: u16,
    distribution: u16,
    names: u16,
}

impl RabbitMq {
    /// Makes a node and starts it; installs RabbitMQ where it is missing and that is allowed.
    pub(crate) fn start(
        [amqp, amqps, api]: [u16; 3],
        identity: Option<&Identity>,
        answers: Answers,
    ) -> Result<Self, String> {
        let program = find_or_install(&["rabbitmq-server"], program)?;
        let dir = directory()?;
        let ports = Ports {
            amqp,
            distribution: free_port()?,
            names: free_port()?,
        };
        configure(dir.path(), amqp, api).map_err(|error| error.to_string())?;
        if let Some(identity) = identity {
            secure(dir.path(), amqps, identity).map_err(|error| error.to_string())?;
        }
        let mut node = Self {
            node: None,
            _names: name_server(dir.path(), &ports)?,
            program,
            ports,
            answers,
            dir,
        };
        node.restart()?;
        Ok(node)
    }
}

impl Running for RabbitMq {
    fn kill(&mut self) {
        self.node = None;
    }

    fn restart(&mut self) -> Result<(), String> {
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
        node.wait_until(|| self.answers.now())?;
        self.node = Some(node);
        Ok(())
    }
}

fn configure(dir: &Path, amqp: u16, api: u16) -> std::io::Result<()> {
    for folder in ["mnesia", "log", "home"] {
        fs::create_dir(dir.join(folder))?;
    }
    let configuration = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {api}\n\
         loopback_users = none\n\
         default_user = admin\n\
         default_pass = admin\n\
         default_user_tags.administrator = true\n\
         default_permissions.configure = .*\n\
         default_permissions.read = .*\n\
         default_permissions.write = .*\n\
         disk_free_limit.absolute = 50MB\n"
    );
    fs::write(dir.join("rabbitmq.conf"), configuration)?;
    fs::write(dir.join("enabled_plugins"), "[rabbitmq_management].\n")
}

/// Lets it speak TLS too.
fn secure(dir: &Path, port: u16, identity: &Identity) -> std::io::Result<()> {
    for (name, pem) in identity.files() {
        fs::write(dir.join(name), pem)?;
    }
    let file = dir.join("rabbitmq.conf");
    let configuration = fs::read_to_string(&file)? + &identity.rabbitmq_configuration(port, dir);
    fs::write(file, configuration)
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
