//! Objects of S3 and of Azure.

mod answer;
mod attempts;
mod azure;
mod bucket;
mod client;
mod connection;
mod errors;
mod listing;
mod probe;
mod s3;

use std::time::SystemTime;

use async_trait::async_trait;

use crate::{
    Created, Destination, DestinationError, Environment, Erasable, Folder, ObjectName, Page, Prune,
    create::{check_len, in_time},
    url::{self, Service},
};
use bucket::Bucket;

/// A bucket of S3, or a container of Azure. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects(Bucket);

impl Objects {
    /// Sets requests up, with the credentials that `environment` names. Asks nobody yet.
    pub(crate) fn new(
        place: String,
        at: &url::Objects,
        environment: Environment<'_>,
    ) -> Result<Self, DestinationError> {
        let clients = match at.service {
            Service::S3 => s3::clients(&place, at, environment)?,
            Service::Azure => azure::clients(&place, at, environment)?,
        };
        Ok(Self(Bucket {
            place,
            service: at.service,
            prefix: at.prefix.clone(),
            clients,
        }))
    }
}

#[async_trait]
impl Prune for Objects {
    async fn remove(&self, name: &ObjectName) -> Result<(), DestinationError> {
        in_time(&self.0.place, self.0.remove(name)).await
    }

    async fn made_at(&self, name: &ObjectName) -> Result<Option<SystemTime>, DestinationError> {
        in_time(&self.0.place, self.0.made_at(name)).await
    }
}

#[async_trait]
impl Destination for Objects {
    fn place(&self) -> String {
        self.0.place.clone()
    }

    async fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, DestinationError> {
        check_len(&self.0.place, name, bytes)?;
        in_time(&self.0.place, self.0.write(name, bytes)).await
    }

    async fn read(&self, name: &ObjectName) -> Result<Vec<u8>, DestinationError> {
        in_time(&self.0.place, self.0.fetch(name)).await
    }

    async fn list(
        &self,
        folder: &Folder,
        after: Option<&ObjectName>,
    ) -> Result<Page, DestinationError> {
        in_time(&self.0.place, listing::page(&self.0, folder, after)).await
    }

    async fn erasable(&self) -> Result<Erasable, DestinationError> {
        in_time(&self.0.place, probe::erasable(&self.0)).await
    }
}
