//! Where a deployment keeps things: the configuration over a state directory.

use std::{
    collections::HashMap,
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rekey_backups::Fingerprint;
use rekey_broker::{LocalTransport, RabbitMq, RabbitMqOptions, Transport};
use rekey_destinations::DestinationUrl;
use rekey_domain::{BackupPolicy, DestinationName, Principal, Worker};
use rekey_kms::LocalKms;
use rekey_messages::Queue;
use rekey_operations::{
    BackupPlaces, Change, OperationError, REQUESTS_HELD, Requester, Services, refuse_lost,
};
use rekey_runtime::config::{ChannelConfig, Config, MonitoringConfig};
use rekey_store::{Store, is_postgres, keys, sqlite_file};

use crate::kms::{NoKms, connect_kms, create_kms, local_kms};

/// Connections to the store that a command opens at most: one, and another while that has a unit open.
const OF_A_COMMAND: u32 = 2;

/// The configuration, and the directory for what it does not keep elsewhere.
#[derive(Debug, Clone)]
pub struct Places {
    /// The configuration.
    pub config: Config,
    state: PathBuf,
}

impl Places {
    /// The directory that was named, or the user's own.
    ///
    /// # Errors
    /// [`OperationError::Configuration`] where there is none to be found.
    pub fn resolve(named: Option<PathBuf>, config: Config) -> Result<Self, OperationError> {
        let nowhere = || OperationError::Configuration {
            place: "the state directory".to_owned(),
            problem: "there is no HOME to keep it in; say --state-dir DIR".to_owned(),
        };
        let state = match named {
            Some(named) => std::path::absolute(named).map_err(|_| nowhere())?,
            None => own_state().ok_or_else(nowhere)?.join("rekey"),
        };
        Ok(Self { config, state })
    }

    /// The same for one command: it does one thing after the other, and leaves connections to others.
    #[must_use]
    pub fn for_a_command(mut self) -> Self {
        let allowed = self.config.store.connections.unwrap_or(OF_A_COMMAND);
        self.config.store.connections = Some(allowed.min(OF_A_COMMAND));
        self
    }

    /// The file `name` in the state directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The store's URL; `create` makes a SQLite database where it is missing.
    pub fn store_url(&self, create: bool) -> String {
        let mode = if create { "rwc" } else { "rw" };
        match &self.config.store.url {
            None => sqlite_url(&self.file("store.db"), create),
            Some(url) if is_postgres(url.expose_url()) => url.expose_url().to_owned(),
            Some(url) if url.expose_url().contains('?') => url.expose_url().to_owned(),
            Some(url) => format!("{}?mode={mode}", url.expose_url()),
        }
    }

    /// Makes the state directory, readable by its owner only.
    ///
    /// # Errors
    /// [`OperationError::Configuration`] where it cannot be made, or others can reach it.
    pub fn create(&self) -> Result<(), OperationError> {
        let dir = self.state.display();
        let wrong = |problem: String| OperationError::Configuration {
            place: format!("state directory {dir}"),
            problem,
        };
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state);
        let mode = made
            .and_then(|()| std::fs::metadata(&self.state))
            .map_err(|error: io::Error| wrong(format!("cannot be made: {error}")))?
            .permissions()
            .mode();
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let mode = mode & 0o777;
        Err(wrong(format!(
            "has mode {mode:o}; others must not reach it: chmod 700 {dir}"
        )))
    }

    /// Opens the store that is there, whatever its schema.
    ///
    /// # Errors
    /// [`OperationError::Configuration`] for a SQLite store that is missing, else [`OperationError::Store`].
    pub async fn open_store(&self) -> Result<Store, OperationError> {
        let url = self.store_url(false);
        let file = (!is_postgres(&url)).then(|| sqlite_file(&url));
        if let Some(missing) = file.filter(|file| !file.exists()) {
            return Err(OperationError::Configuration {
                place: format!(
                    "store {}",
                    std::path::absolute(&missing).unwrap_or(missing).display()
                ),
                problem: "there is no store here; run rekey init, or say --state-dir DIR"
                    .to_owned(),
            });
        }
        Ok(Store::connect_within(&url, self.config.store.connections).await?)
    }

    /// Refuses a store that only one process may serve.
    ///
    /// # Errors
    /// [`OperationError::Configuration`] says what to run instead.
    pub fn serves_many(&self) -> Result<(), OperationError> {
        if is_postgres(&self.store_url(false)) {
            return Ok(());
        }
        Err(OperationError::Configuration {
            place: "store.url".to_owned(),
            problem: "a SQLite store is served by one process: run rekey up, or use PostgreSQL"
                .to_owned(),
        })
    }

    /// Reaches what `rekey init` made.
    ///
    /// # Errors
    /// [`OperationError`] names what cannot be reached, or a schema this program does not know.
    pub async fn connect(&self, principal: Principal) -> Result<Services, OperationError> {
        let store = self.open_store().await?;
        store.check_schema().await?;
        let kms = connect_kms(&self.config.kms, &self.file("master.key")).await?;
        self.wire(store, kms, principal)
    }

    /// The same for a process that uses no keys: it needs no right at the KMS.
    ///
    /// # Errors
    /// As [`Places::connect`].
    pub async fn connect_keyless(&self, principal: Principal) -> Result<Services, OperationError> {
        let store = self.open_store().await?;
        store.check_schema().await?;
        self.wire(store, Arc::new(NoKms::unused()), principal)
    }

    /// The same to look at how things stand: where there is no KMS to reach, each use of it says why.
    ///
    /// # Errors
    /// As [`Places::connect`], the KMS aside.
    pub async fn connect_to_look(&self, principal: Principal) -> Result<Services, OperationError> {
        let store = self.open_store().await?;
        store.check_schema().await?;
        self.look(store, principal).await
    }

    async fn look(&self, store: Store, principal: Principal) -> Result<Services, OperationError> {
        let kms = match connect_kms(&self.config.kms, &self.file("master.key")).await {
            Err(OperationError::Kms(error)) => Arc::new(NoKms::unopened(error)),
            connected => connected?,
        };
        self.wire(store, kms, principal)
    }

    /// Makes what is missing of the store, the master key and the broker's queues, reaches them, and
    /// says so if it made the master key.
    ///
    /// # Errors
    /// As [`Places::connect`]; doing it again goes on from there. [`OperationError::Refused`] where the
    /// store has keys under a master key that is lost: another would open none of them.
    pub async fn make(
        &self,
        principal: Principal,
    ) -> Result<(Services, Option<Change>), OperationError> {
        let store = self.made_store().await?;
        let is_new = keys::wrapped(store.db()).await?.is_empty();
        let services = self.look(store.clone(), principal.clone()).await?;
        if !is_new {
            refuse_lost(&services).await?;
            return Ok((services, None));
        }
        let was_there = services.kms.describe().await.is_ok();
        let kms = create_kms(&self.config.kms, &self.file("master.key")).await?;
        let (id, place) = (kms.describe().await?.id, kms.place());
        let made = (!was_there).then(|| Change {
            subject: format!("master key {id}"),
            change: format!("made, in {place}; keep a copy apart from the store's"),
        });
        Ok((self.wire(store, kms, principal)?, made))
    }

    /// Makes what is missing of the store and of the broker's queues, for a deployment that is brought back: a master key
    /// that is lost is not made anew, as it would open nothing.
    ///
    /// # Errors
    /// As [`Places::connect`], the KMS aside.
    pub async fn make_store(&self, principal: Principal) -> Result<Services, OperationError> {
        let store = self.made_store().await?;
        self.look(store, principal).await
    }

    /// What is missing of the directory, the store and the broker's queues is made.
    async fn made_store(&self) -> Result<Store, OperationError> {
        self.create()?;
        let url = self.store_url(true);
        let store = Store::connect_within(&url, self.config.store.connections).await?;
        store.migrate().await?;
        self.declare().await?;
        store.check_schema().await?;
        Ok(store)
    }

    /// The local KMS, if it is the one that is configured.
    ///
    /// # Errors
    /// As [`Places::connect`], of the KMS alone.
    pub async fn local_kms(&self) -> Result<Option<LocalKms>, OperationError> {
        local_kms(&self.config.kms, &self.file("master.key")).await
    }

    fn wire(
        &self,
        store: Store,
        kms: Arc<dyn rekey_kms::Kms>,
        principal: Principal,
    ) -> Result<Services, OperationError> {
        let sources = self.config.sources.iter();
        let urls = sources.map(|source| (source.name.clone(), source.url.clone()));
        let backups = self.backups(&principal)?;
        let services = Services::new(store, kms, principal).with_source_urls(urls.collect());
        Ok(services.with_backups(backups))
    }

    /// The file that names the RECOVERY key of this state directory.
    pub fn pin_file(&self) -> PathBuf {
        self.file("recovery.fingerprint")
    }

    /// Where this process keeps bundles, and the RECOVERY keys that it was told of.
    fn backups(&self, principal: &Principal) -> Result<BackupPlaces, OperationError> {
        // Other workers share the file, and have no credentials of destinations.
        let mut others = Worker::ALL
            .into_iter()
            .filter(|one| *one != Worker::BackupVerifier);
        let keeps_bundles = !others.any(|other| other.principal() == *principal);
        let wrong =
            |place: String, problem: String| OperationError::Configuration { place, problem };
        let mut destinations = HashMap::new();
        for (name, url, place) in self.destinations() {
            let url = url.parse::<DestinationUrl>();
            let url = url.map_err(|error| wrong(format!("{place}.url"), error.to_string()))?;
            if keeps_bundles {
                // Set up here, so that what is missing is said at start.
                rekey_destinations::open(&url).map_err(|error| wrong(place, error.to_string()))?;
            }
            destinations.insert(name, url);
        }
        let mut pins = Vec::new();
        for text in &self.config.recovery_fingerprints {
            let pin = text.parse::<Fingerprint>();
            let place = "recovery_fingerprint".to_owned();
            pins.push(pin.map_err(|error| wrong(place, error.to_string()))?);
        }
        Ok(BackupPlaces::new(destinations, pins, Some(self.pin_file())))
    }

    /// The destinations: those of the configuration, else for a SQLite store a directory beside it, unless backups are off.
    fn destinations(&self) -> Vec<(DestinationName, String, String)> {
        let said = self.config.destinations.iter();
        let said: Vec<_> = said
            .map(|one| (one.name.clone(), one.url.clone(), one.place.clone()))
            .collect();
        let is_off = self.config.backup == BackupPolicy::Off;
        if !said.is_empty() || is_off || is_postgres(&self.store_url(false)) {
            return said;
        }
        let name = "local".parse().expect("it is a name of a destination");
        let url = format!("file://{}", self.file("backups").display());
        vec![(name, url, "the state directory".to_owned())]
    }

    /// The names of the destinations, as `rekey apply` writes them.
    pub fn destination_names(&self) -> Vec<DestinationName> {
        let all = self.destinations().into_iter();
        all.map(|(name, ..)| name).collect()
    }

    /// Declares the broker's exchanges and queues, where there is a broker.
    ///
    /// # Errors
    /// [`OperationError::Broker`] when it does not let us, or they are there and otherwise.
    pub async fn declare(&self) -> Result<(), OperationError> {
        match self.rabbitmq("rekey", &[], 0) {
            Some(options) => Ok(RabbitMq::declare(&options).await?),
            None => Ok(()),
        }
    }

    /// Deletes the broker's exchanges and queues and all that is in them, where there is a broker.
    ///
    /// # Errors
    /// [`OperationError::Broker`] when it does not let us.
    pub async fn undeclare(&self) -> Result<(), OperationError> {
        match self.rabbitmq("rekey", &[], 0) {
            Some(options) => Ok(RabbitMq::delete(&options).await?),
            None => Ok(()),
        }
    }

    /// What carries the messages of the process `name`, which takes those of `queues`, of each `slots`
    /// at once. Nothing is connected before [`Transport::run`].
    ///
    /// # Errors
    /// [`OperationError::Broker`] for a URL that cannot be used.
    pub fn transport(
        &self,
        store: &Store,
        name: &str,
        queues: &[Queue],
        slots: u16,
    ) -> Result<Arc<dyn Transport>, OperationError> {
        Ok(match self.rabbitmq(name, queues, slots) {
            Some(options) => Arc::new(RabbitMq::new(&options, store.clone())?),
            None => Arc::new(LocalTransport::new(store.clone())),
        })
    }

    fn rabbitmq(&self, name: &str, queues: &[Queue], slots: u16) -> Option<RabbitMqOptions> {
        let held = |queue: &Queue| match queue {
            queue if queue.is_from_outside() => REQUESTS_HELD,
            _ => slots,
        };
        let broker = &self.config.broker;
        Some(RabbitMqOptions {
            url: broker.url.as_ref()?.expose_url().to_owned(),
            prefix: broker.prefix.clone(),
            name: name.to_owned(),
            consume: queues.iter().map(|queue| (*queue, held(queue))).collect(),
        })
    }

    /// The virtual host of RabbitMQ, where the configuration names one that can be used.
    pub fn vhost(&self) -> Option<String> {
        let url = self.config.broker.url.as_ref()?;
        RabbitMq::vhost(url.expose_url()).ok()
    }

    /// Where people are told.
    pub fn channels(&self) -> Vec<ChannelConfig> {
        self.config.channels.clone()
    }

    /// What people are warned of, and when.
    pub fn monitoring(&self) -> MonitoringConfig {
        self.config.monitoring.clone()
    }

    /// Who may publish requests to the broker.
    pub fn requesters(&self) -> Vec<Requester> {
        let principals = self.config.principals.iter();
        principals
            .map(|principal| Requester {
                principal: principal.principal.clone(),
                amqp_user: principal.amqp_user.clone(),
                may: principal.may.clone(),
            })
            .collect()
    }
}

fn own_state() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home)
}

/// The URL of a SQLite database.
pub fn sqlite_url(path: &Path, create: bool) -> String {
    let mode = if create { "rwc" } else { "rw" };
    format!("sqlite://{}?mode={mode}", path.display())
}
