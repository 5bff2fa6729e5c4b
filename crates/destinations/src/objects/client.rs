//! What is asked of a service through the library, and what it leaves to us.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{
    ObjectStore,
    list::{PaginatedListOptions, PaginatedListResult},
    path::Path,
};

/// How a service is asked.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) own: Arc<dyn Own>,
}

/// What each service's client does in its own way.
#[async_trait]
pub(super) trait Own: std::fmt::Debug + Send + Sync {
    /// Some names that begin so.
    async fn names(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult>;

    /// Deletes an object by a request for that alone, whose answer is about that alone.
    async fn delete(&self, path: &Path) -> object_store::Result<()>;
}
