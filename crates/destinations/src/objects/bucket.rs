//! One object of a bucket or container: written, and looked at.

use std::time::SystemTime;

use object_store::{ObjectStoreExt, PutMode, PutPayload, PutResult, path::Path};

use super::{attempts::Attempts, client::Clients, errors::At};
use crate::{Created, DestinationError, Doing, ObjectName, create::compare, url::Service};

/// A bucket of S3, or a container of Azure.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) place: String,
    pub(super) service: Service,
    /// Before each name, without a slash at its end; empty: none.
    pub(super) prefix: String,
    pub(super) clients: Clients,
}

impl Bucket {
    pub(super) fn at(&self, doing: Doing) -> At<'_> {
        At {
            place: &self.place,
            doing,
            name: None,
        }
    }

    /// The key of a name in the bucket or container.
    pub(super) fn key(&self, name: &str) -> String {
        match &*self.prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    pub(super) fn path(&self, name: &ObjectName) -> Path {
        Path::from(self.key(name.as_str()))
    }

    pub(super) async fn put(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        mode: PutMode,
    ) -> object_store::Result<PutResult> {
        let payload = PutPayload::from(bytes.to_vec());
        self.clients
            .store
            .put_opts(&self.path(name), payload, mode.into())
            .await
    }

    /// One attempt at reading.
    pub(super) async fn look(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        let at = self.at(Doing::Read).of(name);
        let answer = self
            .clients
            .store
            .get(&self.path(name))
            .await
            .map_err(|error| at.error(&error))?;
        let bytes = answer.bytes().await.map_err(|error| at.error(&error))?;
        Ok(bytes.to_vec())
    }

    /// Writes, and looks whatever the answer was: an answer may be lost after the object was made, and "exists already"
    /// may be said of what this very call has made.
    pub(super) async fn write(
        &self,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<Created, DestinationError> {
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

    /// Takes an object away, and asks again. Gone already is done.
    pub(super) async fn remove(&self, name: &ObjectName) -> Result<(), DestinationError> {
        let mut attempts = Attempts::default();
        loop {
            let failed = match self.clients.own.delete(&self.path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => self.at(Doing::Remove).of(name).error(&error),
            };
            match failed {
                DestinationError::Missing { .. } => return Ok(()),
                failed => attempts.after(failed).await?,
            }
        }
    }

    /// When an object was made; none: it is not there. Asks again.
    pub(super) async fn made_at(
        &self,
        name: &ObjectName,
    ) -> Result<Option<SystemTime>, DestinationError> {
        let mut attempts = Attempts::default();
        loop {
            let failed = match self.clients.store.head(&self.path(name)).await {
                Ok(object) => return Ok(Some(object.last_modified.into())),
                Err(error) => self.at(Doing::Read).of(name).error(&error),
            };
            match failed {
                DestinationError::Missing { .. } => return Ok(None),
                failed => attempts.after(failed).await?,
            }
        }
    }

    /// Reads, and asks again.
    pub(super) async fn fetch(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        let mut attempts = Attempts::default();
        loop {
            match self.look(name).await {
                Err(failed) => attempts.after(failed).await?,
                found => return found,
            }
        }
    }
}
