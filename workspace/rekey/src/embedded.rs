//! The embedded deployment: a state directory with a SQLite store and a local master key.

use std::{
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use rekey_broker::LocalTransport;
use rekey_domain::Principal;
use rekey_kms::LocalKms;
use rekey_operations::{Desired, Services};
use rekey_runtime::SystemClock;
use rekey_store::Store;

use crate::output::Output;

/// A deployment, opened by one principal.
pub struct App {
    /// What operations work with.
    pub services: Services,
    /// Carries messages.
    pub transport: Arc<LocalTransport>,
    /// What the configuration says there should be.
    pub desired: Desired,
    /// Who runs this program.
    pub principal: Principal,
    /// How results are printed.
    pub output: Output,
}

/// Where an embedded deployment keeps everything.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The directory that was named, or the user's own.
    pub fn resolve(named: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(named) = named {
            return Ok(Self(std::path::absolute(named)?));
        }
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let base = state
            .or_else(home)
            .context("no HOME to keep state in; say --state-dir DIR")?;
        Ok(Self(base.join("rekey")))
    }

    /// Makes the directory, readable by its owner only.
    pub fn create(&self) -> anyhow::Result<()> {
        let dir = self.0.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| format!("cannot make {dir}"))?;
        let mode = std::fs::metadata(&self.0)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!("{dir} has mode {mode:o}; others must not reach it: chmod 700 {dir}");
        }
        Ok(())
    }

    /// The file `name` in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The URL of a SQLite database.
pub fn sqlite_url(path: &Path, create: bool) -> String {
    format!(
        "sqlite://{}?mode={}",
        path.display(),
        if create { "rwc" } else { "rw" }
    )
}

impl App {
    /// Makes what is missing of the store and the master key, and opens the deployment.
    pub async fn create(dir: &StateDir, desired: Desired, output: Output) -> anyhow::Result<Self> {
        dir.create()?;
        let file = dir.file("store.db");
        let store = Store::connect(&sqlite_url(&file, true))
            .await
            .with_context(|| at(&file))?;
        store.migrate().await?;
        let key = dir.file("master.key");
        let kms = LocalKms::create(&key).await?;
        Ok(Self::wire(dir, store, kms, desired, output, person()))
    }

    /// Opens a deployment that `rekey init` made.
    pub async fn open(dir: &StateDir, desired: Desired, output: Output) -> anyhow::Result<Self> {
        let file = dir.file("store.db");
        if !file.exists() {
            bail!(rekey_operations::OperationError::Configuration {
                place: at(&file),
                problem: "there is no store here; run rekey init, or say --state-dir DIR"
                    .to_owned(),
            });
        }
        let store = Store::connect(&sqlite_url(&file, false))
            .await
            .with_context(|| at(&file))?;
        store.check_schema().await?;
        let kms = LocalKms::open(dir.file("master.key")).await?;
        Ok(Self::wire(dir, store, kms, desired, output, person()))
    }

    fn wire(
        dir: &StateDir,
        store: Store,
        kms: LocalKms,
        desired: Desired,
        output: Output,
        principal: Principal,
    ) -> Self {
        let services = Services::new(
            store.clone(),
            Arc::new(kms),
            Arc::new(SystemClock),
            principal.clone(),
        );
        let desired = desired.with_store(&sqlite_url(&dir.file("store.db"), false));
        Self {
            services,
            transport: Arc::new(LocalTransport::new(store)),
            desired,
            principal,
            output,
        }
    }
}

fn at(path: &Path) -> String {
    format!("store {}", path.display())
}

/// Who runs this program.
pub fn person() -> Principal {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    Principal::os(&user, if host.is_empty() { "localhost" } else { host })
}
