//! A deployment of its own: databases, the three programs, and rotations that are timed.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rekey_deployment::Places;
use rekey_domain::{Principal, RotationReason, RotationState};
use rekey_operations::{Services, rotate, rotation_view};
use rekey_runtime::config::Config;
use rekey_store::rotations;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    application::{self, Latency},
    processor::Watch,
    rows::KeyType,
};

const LOOK: Duration = Duration::from_millis(50);

/// What a deployment is made of.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The server, as a superuser.
    pub server: &'a str,
    /// The broker; none: messages travel through the store.
    pub amqp: Option<&'a str>,
    /// Where the programs are.
    pub programs: &'a Path,
    /// The most rows a second.
    pub pace: Option<NonZeroU32>,
    /// Keyrings beside `phi`, as the configuration has them.
    pub keyrings: &'a str,
}

/// Everything a rotation takes, and nothing that was there before.
pub struct Deployment {
    server: String,
    name: String,
    source: PgPool,
    services: Services,
    dir: TempDir,
    programs: PathBuf,
}

/// One rotation, timed from the first batch to the last.
pub struct Run {
    pub seconds: f64,
    pub application: Latency,
    /// Seconds of processor time, by process; all of a server's count as one.
    pub processor: BTreeMap<String, f64>,
    /// The most memory that each process held, in MiB.
    pub memory: Vec<(String, u64)>,
}

impl Deployment {
    /// Makes the databases and the store.
    pub async fn create(setup: Setup<'_>) -> anyhow::Result<Self> {
        let Setup {
            server, programs, ..
        } = setup;
        let name = format!("rekey_bench_{:08x}", rand::random::<u32>());
        let (host, _) = server
            .rsplit_once('/')
            .context("the URL names no database")?;
        for database in [name.clone(), format!("{name}_store")] {
            admin(server, format!("CREATE DATABASE {database}")).await?;
        }
        let dir = tempfile::tempdir()?;
        let (source, store) = (format!("{host}/{name}"), format!("{host}/{name}_store"));
        let config = config(&source, &store, &name, &setup);
        std::fs::write(dir.path().join("rekey.toml"), config)?;
        let pool = PgPool::connect(&source).await?;
        let bench = "CREATE TABLE bench (id bigint PRIMARY KEY, v bytea, note integer)";
        sqlx::query(bench).execute(&pool).await?;
        let programs = std::path::absolute(programs)?;
        let mut init = command(&programs, &dir, "rekey");
        let made = init.arg("init").stdout(Stdio::null()).status()?;
        if !made.success() {
            bail!("rekey init failed; build the programs first: cargo build --release");
        }
        let places = Places::resolve(
            Some(dir.path().join("state")),
            Config::load(Some(&dir.path().join("rekey.toml")))?,
        )?;
        let services = places.connect(Principal::app("bench")).await?;
        Ok(Self {
            server: server.to_owned(),
            name,
            source: pool,
            services,
            dir,
            programs,
        })
    }

    /// The database that is re-encrypted.
    pub fn source(&self) -> &PgPool {
        &self.source
    }

    /// What the values are encrypted with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Makes the table with the primary key asked for.
    pub async fn protect(&self, key: KeyType) -> anyhow::Result<()> {
        let alter = match key {
            KeyType::Bigint => return Ok(()),
            KeyType::Uuid => {
                "DROP TABLE bench; CREATE TABLE bench (id uuid PRIMARY KEY, v bytea, note integer)"
            }
        };
        sqlx::raw_sql(alter).execute(&self.source).await?;
        Ok(())
    }

    /// Rotates with so many batches in flight, while the application goes on.
    pub async fn rotate(&self, in_flight: u16, broker: Option<u32>) -> anyhow::Result<Run> {
        let policy = format!(
            "UPDATE keyring SET policy = jsonb_set(policy::jsonb, '{{concurrency}}', '{in_flight}')::text WHERE name = 'phi'"
        );
        let store = self.store().await?;
        sqlx::query(AssertSqlSafe(policy)).execute(&store).await?;
        let programs = self.start(in_flight)?;
        let operator = Principal::os("bench", "bench");
        let phi = "phi".parse().context("a valid name")?;
        let reason = RotationReason::Request;
        let asked = rotate(&self.services, &phi, reason, &operator).await?;
        let id = loop {
            tokio::time::sleep(LOOK).await;
            let taken =
                rekey_operations::requested_rotation(&self.services, &asked, &operator).await?;
            if let Some(view) = taken {
                break view.id;
            }
        };
        let stop = CancellationToken::new();
        let (mut moving, mut application) = (None, None);
        let mut watched: Vec<_> = programs.iter().map(Program::named).collect();
        watched.extend(broker.map(|pid| ("rabbitmq".to_owned(), pid)));
        let (seconds, processor) = loop {
            tokio::time::sleep(LOOK).await;
            // Asking for more than the state would be work that is measured too.
            match self.state(id).await? {
                RotationState::ReEncrypting if moving.is_none() => {
                    // The census before the first batch is not re-encryption.
                    if rotation_view(&self.services, id, &operator).await?.batches == 0 {
                        continue;
                    }
                    let watch = Watch::start(&self.source, watched.clone()).await?;
                    moving = Some((Instant::now(), watch));
                    let (pool, stop) = (self.source.clone(), stop.clone());
                    let beside = async move { application::latency_until(&pool, stop).await };
                    application = Some(tokio::spawn(beside));
                }
                RotationState::Grace | RotationState::Verifying | RotationState::Completed => {
                    stop.cancel();
                    let (began, watch) = moving.context("it moved nothing")?;
                    break (began.elapsed().as_secs_f64(), watch.since());
                }
                RotationState::Failed => {
                    let view = rotation_view(&self.services, id, &operator).await?;
                    bail!("the rotation failed: {:?}", view.failure)
                }
                _ => {}
            }
        };
        let application = application.context("it moved nothing")?.await??;
        loop {
            if self.state(id).await? == RotationState::Completed {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let memory = programs
            .iter()
            .map(Program::peak)
            .collect::<anyhow::Result<_>>()?;
        Ok(Run {
            seconds,
            application,
            processor,
            memory,
        })
    }

    async fn state(&self, rotation: Uuid) -> anyhow::Result<RotationState> {
        let rotation = rotations::by_id(self.services.store.db(), rotation).await?;
        Ok(rotation.state)
    }

    /// The store's database.
    pub async fn store(&self) -> anyhow::Result<PgPool> {
        Ok(PgPool::connect(self.services.store.url()).await?)
    }

    /// The state directory and the configuration, for a process of one's own.
    pub fn places(&self) -> [PathBuf; 2] {
        ["state", "rekey.toml"].map(|name| self.dir.path().join(name))
    }

    /// Starts each worker once, with so many batches in flight.
    pub fn start(&self, slots: u16) -> anyhow::Result<Vec<Program>> {
        ["scheduler", "rotator", "re-encryptor"]
            .into_iter()
            .map(|name| {
                let mut command = command(&self.programs, &self.dir, &format!("rekey-{name}"));
                let child = command
                    .env("REKEY_SLOTS", slots.to_string())
                    .env("REKEY_LOG", "warn")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .spawn()?;
                Ok(Program { name, child })
            })
            .collect()
    }

    /// Drops the databases.
    pub async fn remove(self) -> anyhow::Result<()> {
        self.source.close().await;
        for database in [self.name.clone(), format!("{}_store", self.name)] {
            let drop = format!("DROP DATABASE {database} WITH (FORCE)");
            admin(&self.server, drop).await?;
        }
        Ok(())
    }
}

/// A worker's process; dropped, it is killed.
pub struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    fn named(&self) -> (String, u32) {
        (self.name.to_owned(), self.child.id())
    }

    /// The most memory it held so far, in MiB.
    fn peak(&self) -> anyhow::Result<(String, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = peak
            .and_then(|peak| peak.trim().trim_end_matches(" kB").trim().parse().ok())
            .context("a process tells its peak memory")?;
        Ok((self.name.to_owned(), kib / 1024))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(programs: &Path, dir: &TempDir, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    command
        .current_dir(dir.path())
        .env("REKEY_STATE_DIR", dir.path().join("state"))
        .env("REKEY_CONFIG", dir.path().join("rekey.toml"));
    command
}

async fn admin(server: &str, sql: String) -> anyhow::Result<()> {
    let pool = PgPool::connect(server).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&pool).await?;
    Ok(())
}

fn config(source: &str, store: &str, prefix: &str, setup: &Setup<'_>) -> String {
    let pace = setup.pace.map_or(0, NonZeroU32::get);
    let keyrings = setup.keyrings;
    let broker = |url| format!("[broker]\nurl = \"{url}\"\nprefix = \"{prefix}.\"");
    let broker = setup.amqp.map(broker).unwrap_or_default();
    format!(
        r#"
backup = "off"
[store]
url = "{store}"
{broker}
[[keyring]]
name = "phi"
purpose = "PHI"
keyset_max_age = "1s"
grace_period = "1s"
sweep_every = "1s"
encrypt_lease = "1s"
{keyrings}
[[source]]
name = "bench"
url = "{source}"
[[source.table]]
name = "bench"
relation = "public.bench"
columns = {{ v = {{ keyring = "phi", bind = "row" }} }}
[source.limits]
rows_per_second = {pace}
"#
    )
}
