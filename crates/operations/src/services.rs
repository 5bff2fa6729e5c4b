//! What operations and workers work with, wired once at start.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rekey_client::Client;
use rekey_domain::{KeyringName, Principal};
use rekey_kms::Kms;
use rekey_runtime::{Clock, config::SecretUrl};
use rekey_sources::Source;
use rekey_store::{Store, audit::AuditPen, columns};

use crate::{Desired, OperationError, STORE_SOURCE, StoreLeases, metered_kms::MeteredKms};

/// The store, the KMS, a client of our own, the sources and the time. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The store.
    pub store: Store,
    /// The master key.
    pub kms: Arc<dyn Kms>,
    /// Encrypts and decrypts as any application would.
    pub client: Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This process, for leases and logs.
    pub holder: String,
    source_urls: Arc<HashMap<String, SecretUrl>>,
    sources: Arc<Mutex<HashMap<String, Arc<dyn Source>>>>,
}

impl Services {
    /// Wires the services of a process that calls itself `principal` where it uses keys.
    pub fn new(
        store: Store,
        kms: Arc<dyn Kms>,
        clock: Arc<dyn Clock>,
        principal: Principal,
    ) -> Self {
        let kms: Arc<dyn Kms> = Arc::new(MeteredKms(kms));
        Self {
            client: client(&store, &kms, &clock, &principal),
            holder: format!("{principal}#{}", std::process::id()),
            store,
            kms,
            clock,
            source_urls: Arc::default(),
            sources: Arc::default(),
        }
    }

    /// The same process as `principal`, with a client, and so keys and counts of uses, of its own.
    #[must_use]
    pub fn acting_as(&self, principal: &Principal) -> Self {
        Self {
            client: client(&self.store, &self.kms, &self.clock, principal),
            holder: format!("{principal}#{}", std::process::id()),
            ..self.clone()
        }
    }

    /// The same, reaching sources by these URLs, with the rights and passwords of this process, and
    /// not by what the store says.
    #[must_use]
    pub fn with_source_urls(self, urls: HashMap<String, SecretUrl>) -> Self {
        Self {
            source_urls: Arc::new(urls),
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

    /// The source, opened once a process.
    ///
    /// # Errors
    /// [`OperationError::Source`] when it cannot be opened.
    pub async fn source(
        &self,
        source: &columns::Source,
    ) -> Result<Arc<dyn Source>, OperationError> {
        let url = self.url_of(source);
        let known = || self.sources.lock().expect("no holder panics");
        if let Some(open) = known().get(url) {
            return Ok(open.clone());
        }
        let opened = rekey_sources::open(url).await?;
        Ok(known().entry(url.to_owned()).or_insert(opened).clone())
    }

    fn url_of<'a>(&'a self, source: &'a columns::Source) -> &'a str {
        if source.name == STORE_SOURCE {
            return self.store.url();
        }
        let ours = self.source_urls.get(&source.name);
        ours.map_or(&source.url, SecretUrl::expose_url)
    }
}

fn client(
    store: &Store,
    kms: &Arc<dyn Kms>,
    clock: &Arc<dyn Clock>,
    principal: &Principal,
) -> Client {
    let (principal, kms) = (principal.clone(), kms.clone());
    let leases = StoreLeases::audited(store.clone(), clock.clone(), principal, kms.clone());
    Client::new(Arc::new(leases), kms)
}
