//! The embedded deployment: a state directory with a SQLite store, and the master key.

use std::{
    fs::DirBuilder,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use rekey_broker::LocalTransport;
use rekey_domain::Principal;
use rekey_kms::Kms;
use rekey_operations::{Desired, OperationError, Requester, Services, connect_kms, create_kms};
use rekey_runtime::{
    SystemClock,
    config::{Config, KmsConfig},
};
use rekey_store::{Store, sqlite_file};

use crate::output::Output;

/// A deployment, opened by one principal.
pub struct App {
    /// What operations work with.
    pub services: Services,
    /// Carries messages.
    pub transport: Arc<LocalTransport>,
    /// What the configuration says there should be.
    pub desired: Desired,
    /// Who may publish requests to the message broker.
    pub requesters: Vec<Requester>,
    /// Who runs this program.
    pub principal: Principal,
    /// How results are printed.
    pub output: Output,
}

/// Where an embedded deployment keeps everything.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    store_url: Option<String>,
    kms: KmsConfig,
}

impl StateDir {
    /// The directory that was named, or the user's own.
    pub fn resolve(named: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(named) = named {
            return Ok(Self::at(std::path::absolute(named)?));
        }
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let base = state
            .or_else(home)
            .context("no HOME to keep state in; say --state-dir DIR")?;
        Ok(Self::at(base.join("rekey")))
    }

    fn at(path: PathBuf) -> Self {
        Self {
            path,
            store_url: None,
            kms: KmsConfig::default(),
        }
    }

    /// The same, but for what the configuration keeps elsewhere.
    #[must_use]
    pub fn with(self, config: &Config) -> Self {
        Self {
            store_url: config
                .store
                .url
                .as_ref()
                .map(|url| url.expose_url().to_owned()),
            kms: config.kms.clone(),
            ..self
        }
    }

    /// The store's URL; `create` makes the database where it is missing.
    pub fn store_url(&self, create: bool) -> String {
        match &self.store_url {
            None => sqlite_url(&self.file("store.db"), create),
            Some(url) if url.contains('?') => url.clone(),
            Some(url) => format!("{url}?mode={}", if create { "rwc" } else { "rw" }),
        }
    }

    /// Where the local master key is, unless the configuration says another place.
    fn key_file(&self) -> PathBuf {
        self.file("master.key")
    }

    /// Makes the directory, readable by its owner only.
    pub fn create(&self) -> anyhow::Result<()> {
        let dir = self.path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .with_context(|| format!("cannot make {dir}"))?;
        let mode = std::fs::metadata(&self.path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!("{dir} has mode {mode:o}; others must not reach it: chmod 700 {dir}");
        }
        Ok(())
    }

    /// The file `name` in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
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
        let store = Store::connect(&dir.store_url(true)).await?;
        store.migrate().await?;
        let kms = create_kms(&dir.kms, &dir.key_file()).await?;
        Ok(Self::wire(dir, store, kms, desired, output))
    }

    /// Opens a deployment that `rekey init` made.
    pub async fn open(dir: &StateDir, desired: Desired, output: Output) -> anyhow::Result<Self> {
        let store = open_store(dir).await?;
        store.check_schema().await?;
        let kms = connect_kms(&dir.kms, &dir.key_file()).await?;
        Ok(Self::wire(dir, store, kms, desired, output))
    }

    fn wire(
        dir: &StateDir,
        store: Store,
        kms: Arc<dyn Kms>,
        desired: Desired,
        output: Output,
    ) -> Self {
        let principal = person();
        let services = Services::new(store.clone(), kms, Arc::new(SystemClock), principal.clone());
        let desired = desired.with_store(&dir.store_url(false));
        Self {
            services,
            transport: Arc::new(LocalTransport::new(store)),
            desired,
            requesters: Vec::new(),
            principal,
            output,
        }
    }
}

/// Opens the store that is there, whatever its schema.
pub async fn open_store(dir: &StateDir) -> anyhow::Result<Store> {
    let url = dir.store_url(false);
    let file = sqlite_file(&url);
    if !file.exists() {
        bail!(OperationError::Configuration {
            place: format!("store {}", file.display()),
            problem: "there is no store here; run rekey init, or say --state-dir DIR".to_owned(),
        });
    }
    Ok(Store::connect(&url).await?)
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
