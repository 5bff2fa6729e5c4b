//! What an error is about: a database, and mostly a table of it.

use std::sync::Arc;

/// The place of an error.
#[derive(Clone)]
pub(crate) struct Place {
    /// The database, without credentials.
    pub(crate) database: Arc<str>,
    /// The table; `-` for the database as a whole.
    pub(crate) relation: String,
}

impl Place {
    pub(crate) fn new(database: &Arc<str>, relation: &str) -> Self {
        Self {
            database: Arc::clone(database),
            relation: relation.to_owned(),
        }
    }

    /// The database as a whole.
    pub(crate) fn database(database: &Arc<str>) -> Self {
        Self::new(database, "-")
    }
}
