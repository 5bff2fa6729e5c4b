//! Services in containers, where a Docker daemon answers.

use std::{env, net::Ipv4Addr};

use testcontainers::{
    Container, ContainerRequest, GenericImage, ImageExt,
    bollard::models::HostConfig,
    core::{IntoContainerPort, client::docker_client_instance},
    runners::SyncRunner,
};

use crate::{
    process::wait_until,
    running::{AZURITE as AZURITE_OPTIONS, Answers, Running, SETTINGS, apart, runtime},
    tls::Identity,
};

/// Pinned, so that a failure is ours and not a new release's. The variable names another, such as an older version.
struct Image {
    variable: &'static str,
    pinned: &'static str,
}

const POSTGRES: Image = Image {
    variable: "REKEY_TEST_POSTGRES_IMAGE",
    pinned: "postgres:17.6",
};
const RABBITMQ: Image = Image {
    variable: "REKEY_TEST_RABBITMQ_IMAGE",
    pinned: "rabbitmq:4.1.4-management",
};
const MOTO: Image = Image {
    variable: "REKEY_TEST_KMS_IMAGE",
    pinned: "motoserver/moto:5.2.5",
};
const AZURITE: Image = Image {
    variable: "REKEY_TEST_AZURE_IMAGE",
    pinned: "mcr.microsoft.com/azure-storage/azurite:3.35.0",
};
const CONFIGURATION: &str = "/etc/rabbitmq/conf.d/90-rekey-test.conf";
const CERTIFICATES: &str = "/etc/rabbitmq/rekey-test";

/// A running container. Dropped, it is removed with its data.
pub(crate) struct Contained {
    container: Option<Container<GenericImage>>,
    answers: Answers,
}

/// Whether a Docker daemon answers.
pub fn are_possible() -> bool {
    let ping = async || docker_client_instance().await.ok()?.ping().await.ok();
    apart(|| runtime().block_on(ping()).is_some())
}

/// PostgreSQL at `port`.
pub(crate) fn postgres(
    port: u16,
    answers: Answers,
    settings: &[&'static str],
) -> Result<Contained, String> {
    let settings = SETTINGS.iter().chain(settings);
    let settings = settings.flat_map(|setting| ["-c", setting]);
    let request = POSTGRES.at(&[(port, 5432)])?;
    let request = request
        .with_env_var("POSTGRES_PASSWORD", "postgres")
        .with_cmd(["postgres"].into_iter().chain(settings));
    Contained::start(request, answers)
}

/// RabbitMQ at the port `amqp` and its management API at `api`; with an identity, `amqps` at `amqps` too.
pub(crate) fn rabbitmq(
    [amqp, amqps, api]: [u16; 3],
    identity: Option<&Identity>,
    answers: Answers,
) -> Result<Contained, String> {
    let request = RABBITMQ.at(&[(amqp, 5672), (amqps, 5671), (api, 15672)])?;
    let mut request = request
        .with_env_var("RABBITMQ_DEFAULT_USER", "admin")
        .with_env_var("RABBITMQ_DEFAULT_PASS", "admin");
    if let Some(identity) = identity {
        let configuration = identity.rabbitmq_configuration(5671, CERTIFICATES.as_ref());
        request = request.with_copy_to(CONFIGURATION, configuration.into_bytes());
        for (name, pem) in identity.files() {
            let place = format!("{CERTIFICATES}/{name}");
            request = request.with_copy_to(place, pem.as_bytes().to_vec());
        }
    }
    Contained::start(request, answers)
}

/// An emulator of AWS KMS and S3 at `port`.
pub(crate) fn kms(port: u16, answers: Answers) -> Result<Contained, String> {
    Contained::start(MOTO.at(&[(port, 5000)])?, answers)
}

/// An emulator of Azure's blobs at `port`.
pub(crate) fn azure(port: u16, answers: Answers) -> Result<Contained, String> {
    let request = AZURITE.at(&[(port, 10000)])?;
    let command = ["azurite-blob", "--blobHost", "0.0.0.0"];
    let command = command.into_iter().chain(AZURITE_OPTIONS);
    Contained::start(request.with_cmd(command), answers)
}

impl Image {
    /// A container with these ports of the loopback interface on its own.
    fn at(&self, ports: &[(u16, u16)]) -> Result<ContainerRequest<GenericImage>, String> {
        let named = env::var(self.variable).unwrap_or_else(|_| self.pinned.to_owned());
        let (name, tag) = named.rsplit_once(':').ok_or_else(|| {
            let Self { variable, pinned } = self;
            format!("{variable}: expected a name and a tag, such as {pinned}, found {named}")
        })?;
        let image = GenericImage::new(name, tag);
        let request = image.with_host_config_modifier(only_on_loopback);
        Ok(ports.iter().fold(request, |request, (outer, inner)| {
            request.with_mapped_port(*outer, inner.tcp())
        }))
    }
}

fn only_on_loopback(config: &mut HostConfig) {
    let ports = config.port_bindings.iter_mut();
    for binding in ports.flat_map(|map| map.values_mut()).flatten().flatten() {
        binding.host_ip = Some(Ipv4Addr::LOCALHOST.to_string());
    }
}

impl Contained {
    fn start(request: ContainerRequest<GenericImage>, answers: Answers) -> Result<Self, String> {
        let container = apart(|| request.start()).map_err(|error| error.to_string())?;
        let mut started = Self {
            container: Some(container),
            answers,
        };
        started.wait()?;
        Ok(started)
    }

    fn container(&self) -> &Container<GenericImage> {
        let container = self.container.as_ref();
        container.expect("there is one until it is dropped")
    }

    fn wait(&mut self) -> Result<(), String> {
        let container = self.container();
        let running = || apart(|| container.is_running()).unwrap_or(false);
        let said = || {
            let said = [container.stdout_to_vec(), container.stderr_to_vec()];
            let said = said.map(Result::unwrap_or_default).concat();
            String::from_utf8_lossy(&said).into_owned()
        };
        wait_until(|| self.answers.now(), running, || apart(said))
    }
}

impl Running for Contained {
    fn kill(&mut self) {
        let id = self.container().id();
        let kill = async || {
            docker_client_instance()
                .await
                .ok()?
                .kill_container(id, None)
                .await
                .ok()
        };
        // Fails if it does not run.
        apart(|| runtime().block_on(kill()));
    }

    fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let container = self.container();
        apart(|| container.start()).map_err(|error| error.to_string())?;
        self.wait()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let container = self.container.take();
        apart(|| drop(container));
    }
}
