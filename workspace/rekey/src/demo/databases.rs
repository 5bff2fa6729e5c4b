//! The databases of a demo on servers: one for everything, or one for the store and one for the patients.

use super::{
    args::Args,
    schema::{SCHEMA, Schema},
};
use crate::exit::UsageError;

/// Where the store is, and where the patients are if elsewhere: a schema of the demo's own in each.
pub struct Databases {
    /// Where the store is.
    pub store: Schema,
    source: Option<Schema>,
}

impl Databases {
    /// Those that the arguments name; nothing is connected yet.
    pub fn of(args: &Args) -> Result<Option<Self>, UsageError> {
        let Some(url) = &args.database_url else {
            return Ok(None);
        };
        let store = Schema::at(url, "--database-url")?;
        let source = args.source_url.as_ref().filter(|source| *source != url);
        let source = source.map(|source| Schema::at(source, "--source-url"));
        Ok(Some(Self {
            store,
            source: source.transpose()?,
        }))
    }

    /// Where the patients are.
    pub fn source(&self) -> &Schema {
        self.source.as_ref().unwrap_or(&self.store)
    }

    /// Refuses them if a demo has been in either.
    pub async fn refuse_if_there(&self) -> anyhow::Result<()> {
        for schema in self.schemas() {
            schema.refuse_if_there().await?;
        }
        Ok(())
    }

    /// Makes both schemas, or none.
    pub async fn create(&self) -> anyhow::Result<()> {
        self.store.create().await?;
        let Some(source) = &self.source else {
            return Ok(());
        };
        let created = match source.is_there().await {
            // It was not a moment ago.
            Ok(true) => Err(UsageError(
                "--source-url names the same database as --database-url; leave it out".to_owned(),
            )
            .into()),
            Ok(false) => source.create().await,
            Err(error) => Err(error),
        };
        let Err(error) = created else { return Ok(()) };
        match self.store.remove_empty().await {
            Ok(()) => Err(error),
            Err(_) => Err(error.context(format!(
                "schema {SCHEMA} in {} was made and could not be removed again",
                self.store.database()
            ))),
        }
    }

    /// Each schema once.
    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        [Some(&self.store), self.source.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Where everything is, for people.
    pub fn describe(&self) -> String {
        let store = format!("The store is in {}", self.store.database());
        match &self.source {
            Some(source) => format!("{store}, the patients in {}", source.database()),
            None => store,
        }
    }

    /// Commands to look at what a demo left; `kept` is its directory. Passwords are left out.
    pub fn next(&self, kept: Option<&str>) -> Vec<String> {
        let url = self.source().url().without_password();
        let store = self.store.store_url().without_password();
        let patients = format!("psql '{url}' -c 'SELECT * FROM {SCHEMA}.patients LIMIT 3'");
        let mut next = vec![patients];
        if let Some(dir) = kept {
            next.push(format!("export REKEY__STORE__URL='{store}'"));
            next.push(format!("rekey --state-dir {dir} status"));
            next.push(format!("rekey --state-dir {dir} audit verify"));
        } else {
            let gone = "(the master key is gone; --state-dir DIR keeps it, for rekey status)";
            next.push(gone.to_owned());
        }
        next.push("(passwords are left out: all of these take PGPASSWORD)".to_owned());
        next
    }
}
