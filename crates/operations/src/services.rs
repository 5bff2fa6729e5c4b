//! What operations and workers work with, wired once at start.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use rekey_client::Client;
use rekey_domain::{KeyringName, Principal};
use rekey_kms::{Kms, MasterKeyState};
use rekey_runtime::config::SecretUrl;
use rekey_sources::{Source, SourceError, USUAL_CONNECTIONS};
use rekey_store::{Store, audit::AuditPen, columns};

use crate::{
    BackupPlaces, Desired, OperationError, STORE_SOURCE, StoreLeases, keys::metered_kms::MeteredKms,
};

/// The store, which tells the time too, the KMS, a client of our own, and the sources. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The store.
    pub store: Store,
    /// The master key.
    pub kms: Arc<dyn Kms>,
    /// Encrypts and decrypts as any application would.
    pub client: Client,
    /// This process, for leases and logs.
    pub holder: String,
    /// Where this process keeps bundles.
    pub backups: Arc<BackupPlaces>,
    source_urls: Arc<HashMap<String, SecretUrl>>,
    sources: Arc<Mutex<HashMap<String, Open>>>,
}

/// A source, the URL it was opened by, and what its database was known by then.
#[derive(Clone)]
struct Open {
    url: SecretUrl,
    database_id: Option<String>,
    source: Arc<dyn Source>,
}

impl Services {
    /// Wires the services of a process that calls itself `principal` where it uses keys.
    pub fn new(store: Store, kms: Arc<dyn Kms>, principal: Principal) -> Self {
        let kms: Arc<dyn Kms> = Arc::new(MeteredKms(kms));
        Self {
            client: client(&store, &kms, &principal),
            holder: format!("{principal}#{}", std::process::id()),
            store,
            kms,
            backups: Arc::default(),
            source_urls: Arc::default(),
            sources: Arc::default(),
        }
    }

    /// The same process as `principal`, with a client, and so keys and counts of uses, of its own.
    #[must_use]
    pub fn acting_as(&self, principal: &Principal) -> Self {
        Self {
            client: client(&self.store, &self.kms, principal),
            holder: format!("{principal}#{}", std::process::id()),
            ..self.clone()
        }
    }

    /// The same, reaching sources by this process's own URLs, rights and passwords instead of the store's URLs.
    #[must_use]
    pub fn with_source_urls(self, urls: HashMap<String, SecretUrl>) -> Self {
        Self {
            source_urls: Arc::new(urls),
            sources: Arc::default(),
            ..self
        }
    }

    /// The same, keeping bundles at these places.
    #[must_use]
    pub fn with_backups(self, backups: BackupPlaces) -> Self {
        Self {
            backups: Arc::new(backups),
            ..self
        }
    }

    /// The pen that writes `principal`'s entries into the audit log. Asks for keys where it must, so
    /// it is taken before a unit begins.
    ///
    /// # Errors
    /// [`OperationError::Client`] when no AUDIT key may encrypt now: then nothing may be done (rule 8).
    pub async fn pen(&self, principal: &Principal) -> Result<AuditPen, OperationError> {
        let audit: KeyringName = Desired::audit_keyring().name;
        // One unit writes a few entries at most; what is drawn and not used counts as used.
        let key = self.client.encryption_key(&audit, 4).await?;
        Ok(AuditPen::new(key, principal.clone()))
    }

    /// The source, opened once in each process. Opened again if its URL file has another URL, or if another database
    /// was applied. If the file cannot be read, the open source is used on.
    ///
    /// # Errors
    /// [`OperationError::Source`] if it cannot be opened, or leads to another database than the applied one.
    pub async fn source(
        &self,
        source: &columns::Source,
    ) -> Result<Arc<dyn Source>, OperationError> {
        let open = self.open_source(&source.name);
        let open = open.filter(|open| !open.source.is_another());
        let open = open.filter(|open| is_noted(source, open.database_id.as_ref()));
        let url = match (self.url_of(source), open) {
            (Ok(url), Some(open)) if open.url == url => return Ok(open.source),
            (Err(problem), Some(open)) => {
                tracing::warn!(source = source.name, problem, "the URL file of a source");
                return Ok(open.source);
            }
            (url, _) => url.map_err(|problem| out_of_reach(&source.name, problem))?,
        };
        let opened = rekey_sources::open_with(url.expose_url(), self.connections(source)).await?;
        let database_id = opened.database_id().await?;
        refuse_another(source, database_id.as_ref())?;
        let mut known = self.sources.lock().expect("no holder panics");
        // Who opened it meanwhile was first: its writers take turns.
        let same = |one: &&Open| {
            one.url == url && one.database_id == database_id && !one.source.is_another()
        };
        if let Some(one) = known.get(&source.name).filter(same) {
            return Ok(one.source.clone());
        }
        let new = Open {
            url,
            database_id,
            source: opened.clone(),
        };
        known.insert(source.name.clone(), new);
        Ok(opened)
    }

    /// Sessions that this process may keep at the source.
    fn connections(&self, source: &columns::Source) -> NonZeroU32 {
        let said = if source.name == STORE_SOURCE {
            self.store.connections().and_then(NonZeroU32::new)
        } else {
            source.limits().connections
        };
        said.unwrap_or(USUAL_CONNECTIONS)
    }

    /// Why the KMS would not open keys now.
    pub async fn kms_problem(&self) -> Option<String> {
        match self.kms.describe().await {
            Ok(master_key) if master_key.state == MasterKeyState::Enabled => None,
            Ok(master_key) => Some(format!(
                "master key {} is {}",
                master_key.id, master_key.state
            )),
            Err(error) => Some(error.to_string()),
        }
    }

    fn open_source(&self, name: &str) -> Option<Open> {
        let known = self.sources.lock().expect("no holder panics");
        known.get(name).cloned()
    }

    /// By which URL this process reaches a source now.
    ///
    /// # Errors
    /// What is wrong with the file that it stands in.
    pub(crate) fn url_of(&self, source: &columns::Source) -> Result<SecretUrl, String> {
        if source.name == STORE_SOURCE {
            return Ok(self.store.url().to_owned().into());
        }
        match self.source_urls.get(&source.name) {
            Some(ours) => ours.now(),
            None => Ok(source.url.clone().into()),
        }
    }
}

/// Refuses a database that is not the applied one: a link or a host name may lead elsewhere now, or this process may
/// have started with an old URL.
fn refuse_another(stored: &columns::Source, found: Option<&String>) -> Result<(), SourceError> {
    match (&stored.database_id, found) {
        (Some(noted), Some(found)) if found != noted => Err(SourceError::AnotherDatabase {
            source_name: stored.name.clone(),
            noted: noted.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether a database is the applied one. True if our role may not ask for its identity.
fn is_noted(stored: &columns::Source, found: Option<&String>) -> bool {
    refuse_another(stored, found).is_ok()
}

/// Like a source that is away: it is tried again, and no work is given up.
fn out_of_reach(name: &str, problem: String) -> OperationError {
    OperationError::Source(SourceError::OutOfReach {
        database: format!("source {name}"),
        reason: problem,
    })
}

fn client(store: &Store, kms: &Arc<dyn Kms>, principal: &Principal) -> Client {
    let (principal, kms) = (principal.clone(), kms.clone());
    let leases = StoreLeases::audited(store.clone(), principal, kms.clone());
    Client::new(Arc::new(leases), kms)
}
