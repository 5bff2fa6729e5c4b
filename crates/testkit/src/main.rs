//! `rekey-testkit COMMAND …`: finds or starts the services that tests need, and runs the command with them.

use std::{
    any::Any,
    env,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rekey_testkit::{
    PrivateAzure, PrivateKms, PrivatePostgres, PrivateRabbitMq, containers, services,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Signals, SignalKind, signal},
};

/// How many tests of a binary run at once, as Rust's test runner reads it.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// A kind of service that tests need.
struct Service {
    name: &'static str,
    variables: &'static [&'static str],
    start: fn() -> Result<Started, String>,
}

const SERVICES: [Service; 4] = [
    Service {
        name: "PostgreSQL",
        variables: &[services::POSTGRES],
        start: postgres,
    },
    Service {
        name: "RabbitMQ",
        variables: &[services::AMQP, services::RABBITMQ_API],
        start: rabbitmq,
    },
    Service {
        name: "AWS emulator",
        variables: &[services::KMS],
        start: kms,
    },
    Service {
        name: "Azure emulator",
        variables: &[services::AZURE],
        start: azure,
    },
];

/// A service that runs for us.
struct Started {
    /// Dropped, it ends.
    _running: Box<dyn Any + Send>,
    /// The variables that say where it is.
    variables: Vec<(&'static str, String)>,
}

impl Started {
    fn new(running: impl Any + Send, variables: Vec<(&'static str, String)>) -> Self {
        let _running = Box::new(running);
        Self {
            _running,
            variables,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = env::args_os().skip(1);
    let Some(program) = words.next() else {
        bail!("say what to run with the services: rekey-testkit cargo test --workspace");
    };
    // From here on they are awaited, and end what was started.
    let mut stops = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ];
    let starting = tokio::task::spawn_blocking(start_all);
    let services = tokio::select! {
        services = starting => services??,
        // What was started ends with its thread, which the process waits for.
        _ = stopped(&mut stops) => return Ok(ExitCode::from(130)),
    };
    let variables = services
        .iter()
        .flat_map(|started| started.variables.clone());
    let mut command = std::process::Command::new(&program);
    command.args(words).envs(variables).process_group(0);
    if env::var_os(TEST_THREADS).is_none() {
        command.env(TEST_THREADS, tests_at_once().to_string());
    }
    let child = Command::from(command)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = wait(child, &mut stops).await;
    drop(services);
    code
}

/// Tests wait for servers and for leases more than they compute.
fn tests_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    cores + 1
}

async fn wait(mut child: Child, stops: &mut [Signals; 2]) -> anyhow::Result<ExitCode> {
    loop {
        tokio::select! {
            ended = child.wait() => {
                let ended = ended?;
                // As a shell says it.
                let code = ended.code().or(ended.signal().map(|signal| 128 + signal));
                let code = code.and_then(|code| u8::try_from(code).ok());
                return Ok(ExitCode::from(code.unwrap_or(1)));
            }
            sent = stopped(stops) => {
                if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                    let _ = killpg(Pid::from_raw(id), sent);
                }
            }
        }
    }
}

async fn stopped([interrupt, terminate]: &mut [Signals; 2]) -> Signal {
    tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
    }
}

fn start_all() -> anyhow::Result<Vec<Started>> {
    let docker = containers::are_possible();
    let mut started = Vec::new();
    for service in SERVICES {
        let Service {
            name, variables, ..
        } = service;
        let is_set = |variable: &&str| env::var_os(variable).is_some_and(|value| !value.is_empty());
        if variables.iter().all(is_set) {
            say(name, "as the environment says");
            continue;
        }
        started.push((service.start)().map_err(|error| {
            let variables = variables.join(" and ");
            anyhow!("{name}: {error}\nStart Docker, or install it, or set {variables}.")
        })?);
        let local = "of this machine, on a port of its own";
        say(name, if docker { "in a container" } else { local });
    }
    Ok(started)
}

#[expect(clippy::print_stderr, reason = "a program for people")]
fn say(name: &str, how: &str) {
    eprintln!("rekey-testkit: {name}: {how}");
}

fn postgres() -> Result<Started, String> {
    let server = PrivatePostgres::start()?;
    let url = server.url();
    Ok(Started::new(server, vec![(services::POSTGRES, url)]))
}

fn rabbitmq() -> Result<Started, String> {
    let node = PrivateRabbitMq::start()?;
    let (amqp, api) = (node.amqp_url(), node.api_url());
    let places = vec![(services::AMQP, amqp), (services::RABBITMQ_API, api)];
    Ok(Started::new(node, places))
}

fn kms() -> Result<Started, String> {
    let emulator = PrivateKms::start()?;
    let url = emulator.url();
    Ok(Started::new(emulator, vec![(services::KMS, url)]))
}

fn azure() -> Result<Started, String> {
    let emulator = PrivateAzure::start()?;
    let url = emulator.url();
    Ok(Started::new(emulator, vec![(services::AZURE, url)]))
}
