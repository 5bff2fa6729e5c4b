//! What the `main` of every worker does: configuration, hardening, health, signals, and waiting for what it needs.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rekey_broker::Transport;
use rekey_domain::Worker;
use rekey_messages::Queue;
use rekey_operations::{OperationError, Requester, Services};
use rekey_runtime::{
    config::{ChannelConfig, Config, ConfigErrors, MonitoringConfig},
    hardening, health, metrics, shutdown, telemetry,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{Places, ProcessProbe, background};

/// The exit code for wrong usage or configuration.
const CONFIGURATION: u8 = 2;
/// What is not there yet is looked for again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A worker program.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Which; its principal is `worker:` and its name.
    pub worker: Worker,
    /// The queues it takes messages of.
    pub queues: &'static [Queue],
}

/// What every worker program takes.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "A worker of Rekey; docs/operating.md says how to run it"
)]
struct Args {
    /// The configuration. Default: rekey.toml here, if there is one.
    #[arg(long, env = "REKEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keeps the master key of the local KMS.
    #[arg(long, env = "REKEY_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Serves /livez, /readyz and /metrics here.
    #[arg(
        long,
        env = "REKEY_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Messages worked on at once. Default: as many as processors, at least two.
    #[arg(long, env = "REKEY_SLOTS", value_parser = clap::value_parser!(u16).range(1..=64))]
    slots: Option<u16>,
}

/// What a worker is run with.
pub struct Process {
    /// Store, KMS, sources, time.
    pub services: Services,
    /// Carries its messages.
    pub transport: Arc<dyn Transport>,
    /// Who may publish requests to the broker.
    pub requesters: Vec<Requester>,
    /// Where people are told.
    pub channels: Vec<ChannelConfig>,
    /// What people are warned of, and when.
    pub monitoring: MonitoringConfig,
    /// Messages worked on at once.
    pub slots: u16,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Runs `work` until SIGTERM or Ctrl-C. What is not there yet is waited for, and `/readyz` says why.
pub async fn run<F>(program: Program, work: impl FnOnce(Process) -> F) -> ExitCode
where
    F: Future<Output = ()>,
{
    let args = Args::parse();
    telemetry::init("info");
    match start(program, args, work).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&*error);
            ExitCode::from(CONFIGURATION)
        }
    }
}

/// Each problem of a configuration on a line of its own.
fn log(error: &(dyn std::error::Error + 'static)) {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => errors
            .problems
            .iter()
            .for_each(|problem| tracing::error!("{problem}")),
        None => tracing::error!("{error:#}"),
    }
}

async fn start<F>(
    program: Program,
    args: Args,
    work: impl FnOnce(Process) -> F,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    F: Future<Output = ()>,
{
    hardening::harden()?;
    hardening::install_tls_provider();
    let here = PathBuf::from("rekey.toml");
    let file = args.config.or_else(|| here.exists().then_some(here));
    let places = Places::resolve(args.state_dir, Config::load(file.as_deref())?)?;
    places.serves_many()?;
    let shutdown = shutdown::on_signal()?;
    let probe = Arc::new(ProcessProbe::default());
    let listener = TcpListener::bind(args.listen).await?;
    tracing::info!(program = program.worker.name(), listen = %listener.local_addr()?, "started");
    let serving = serve(listener, probe.clone(), &shutdown);
    let slots = args.slots.unwrap_or_else(as_many_as_processors);
    let reached = reach(program, &places, slots, &probe);
    if let Some((services, transport)) = shutdown.run_until_cancelled(reached).await {
        let beside = tokio::spawn(background(
            services.client.clone(),
            transport.clone(),
            shutdown.clone(),
        ));
        let process = Process {
            services,
            transport,
            requesters: places.requesters(),
            channels: places.channels(),
            monitoring: places.monitoring(),
            slots,
            shutdown,
        };
        let client = process.services.client.clone();
        work(process).await;
        beside.await?;
        // What the last batches did with keys.
        if let Err(error) = client.flush().await {
            tracing::warn!(%error, "the last uses of keys were not reported");
        }
    }
    serving.await?;
    tracing::info!(program = program.worker.name(), "ended");
    Ok(())
}

/// Serves `/livez`, `/readyz` and `/metrics` until `shutdown`.
pub fn serve(
    listener: TcpListener,
    probe: Arc<ProcessProbe>,
    shutdown: &CancellationToken,
) -> JoinHandle<()> {
    let serving = health::serve(listener, probe, metrics::record(), shutdown.clone());
    tokio::spawn(serving)
}

/// Tries until everything is there. `/readyz` reports a store that is not migrated yet or a KMS that denies, and once
/// that is mended no restart is needed.
async fn reach(
    program: Program,
    places: &Places,
    slots: u16,
    probe: &ProcessProbe,
) -> (Services, Arc<dyn Transport>) {
    let mut said = String::new();
    loop {
        match try_reach(program, places, slots).await {
            Ok((services, transport)) => {
                probe.running(services.clone(), transport.clone(), vec![program.worker]);
                return (services, transport);
            }
            Err(error) => {
                if said != error.to_string() {
                    said = error.to_string();
                    tracing::error!(program = program.worker.name(), %error, "not ready");
                }
                probe.starting(&error);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn try_reach(
    program: Program,
    places: &Places,
    slots: u16,
) -> Result<(Services, Arc<dyn Transport>), OperationError> {
    let principal = program.worker.principal();
    let services = if program.worker.uses_keys() {
        places.connect(principal).await?
    } else {
        places.connect_keyless(principal).await?
    };
    let name = format!("rekey-{}", program.worker.name());
    let transport = places.transport(&services.store, &name, program.queues, slots)?;
    Ok((services, transport))
}

/// More slots than processors only make batches wait for each other.
pub fn as_many_as_processors() -> u16 {
    let processors = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
    u16::try_from(processors).unwrap_or(u16::MAX)
}
