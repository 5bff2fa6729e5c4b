//! Objects of S3 and of Azure.

mod answer;
mod azure;
mod connection;
mod errors;
mod listing;
mod probe;
mod s3;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutPayload, PutResult, list::PaginatedListStore,
    path::Path,
};

use crate::{
    Created, Destination, DestinationError, Doing, Environment, Erasable, Folder, ObjectName, Page,
    create::{check_len, compare, in_time},
    url::{self, Service},
};
use errors::At;

/// Attempts at one call; beyond them our workers retry, visibly.
const ATTEMPTS: u32 = 3;
/// Before the second attempt; twice as long before the third.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A bucket of S3, or a container of Azure.
#[derive(Debug, Clone)]
pub struct Objects {
    place: String,
    service: Service,
    prefix: String,
    store: Arc<dyn ObjectStore>,
    names: Arc<dyn Names>,
}

/// Lists names page by page; what both clients do, and can be shown.
trait Names: PaginatedListStore + std::fmt::Debug {}
impl<T: PaginatedListStore + std::fmt::Debug> Names for T {}

impl Objects {
    /// Sets requests up, with the credentials that `environment` names. Asks nobody yet.
    pub(crate) fn new(
        place: String,
        at: &url::Objects,
        environment: &Environment<'_>,
    ) -> Result<Self, DestinationError> {
        match at.service {
            Service::S3 => Self::over(s3::client(&place, at, environment)?, place, at),
            Service::Azure => Self::over(azure::client(&place, at, environment)?, place, at),
        }
    }

    fn over(
        client: impl ObjectStore + Names,
        place: String,
        at: &url::Objects,
    ) -> Result<Self, DestinationError> {
        let client = Arc::new(client);
        Ok(Self {
            place,
            service: at.service,
            prefix: at.prefix.clone(),
            store: client.clone(),
            names: client,
        })
    }

    fn at(&self, doing: Doing) -> At<'_> {
        At {
            place: &self.place,
            doing,
            name: None,
        }
    }

    /// The key of a name in the bucket or container.
    fn key(&self, name: &str) -> String {
        match &*self.prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn path(&self, name: &ObjectName) -> Path {
        Path::from(self.key(name.as_str()))
    }

    async fn put(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        mode: PutMode,
    ) -> object_store::Result<PutResult> {
        let payload = PutPayload::from(bytes.to_vec());
        self.store
            .put_opts(&self.path(name), payload, mode.into())
            .await
    }

    /// One attempt at reading.
    async fn look(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        let at = self.at(Doing::Read).of(name);
        let answer = self
            .store
            .get(&self.path(name))
            .await
            .map_err(|error| at.error(&error))?;
        let bytes = answer.bytes().await.map_err(|error| at.error(&error))?;
        Ok(bytes.to_vec())
    }

    /// Writes, and looks whatever the answer was: an answer may be lost after the object was made, and "exists already"
    /// may be said of what this very call has made.
    async fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, DestinationError> {
        let (mut acknowledged, mut attempts) = (false, Attempts::default());
        loop {
            let written = self.put(name, bytes, PutMode::Create).await;
            acknowledged |= written.is_ok();
            let failed = match (self.look(name).await, written) {
                (Ok(found), _) => {
                    compare(&self.place, name, bytes, &found)?;
                    return Ok(if acknowledged {
                        Created::Created
                    } else {
                        Created::AlreadyThere
                    });
                }
                (Err(DestinationError::Missing { .. }), Ok(_)) => self.at(Doing::Create).vanished(),
                (Err(unread), Ok(_)) => unread,
                // It was said why it could not be written; that it cannot be read says less.
                (Err(_), Err(unwritten)) => self.at(Doing::Create).error(&unwritten),
            };
            attempts.after(failed).await?;
        }
    }

    /// Reads, and asks again.
    async fn fetch(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        let mut attempts = Attempts::default();
        loop {
            match self.look(name).await {
                Err(failed) => attempts.after(failed).await?,
                found => return found,
            }
        }
    }
}

#[async_trait]
impl Destination for Objects {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, DestinationError> {
        check_len(&self.place, name, bytes)?;
        in_time(&self.place, self.write(name, bytes)).await
    }

    async fn read(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        in_time(&self.place, self.fetch(name)).await
    }

    async fn list(
        &self,
        folder: &Folder,
        after: Option<&ObjectName>,
    ) -> Result<Page, DestinationError> {
        in_time(&self.place, listing::page(self, folder, after)).await
    }

    async fn erasable(&self) -> Result<Erasable, DestinationError> {
        in_time(&self.place, probe::erasable(self)).await
    }
}

/// How often something was tried.
#[derive(Default)]
struct Attempts(u32);

impl Attempts {
    /// Waits before the next, if there is one and it may help.
    async fn after(&mut self, failed: DestinationError) -> Result<(), DestinationError> {
        self.0 += 1;
        if self.0 == ATTEMPTS || !failed.is_retryable() {
            return Err(failed);
        }
        tokio::time::sleep(FIRST_PAUSE * self.0).await;
        Ok(())
    }
}
