//! Where a demo runs: all of it in a directory, or its data in PostgreSQL and its messages over RabbitMQ.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use rekey_deployment::{Places, sqlite_url};
use rekey_operations::OperationError;
use rekey_runtime::{
    config::{BrokerConfig, Config, DestinationConfig, SecretUrl, SourceConfig, StoreConfig},
    shutdown,
};
use tempfile::TempDir;

use super::{
    args::Args,
    clinic::{Clinic, PostgresClinic, SqliteClinic},
    databases::Databases,
    schema::SCHEMA,
};

/// Where a demo runs.
pub struct Site {
    /// The deployment's.
    pub places: Places,
    databases: Option<Databases>,
    /// Made for the demo, and gone with it.
    temporary: Option<TempDir>,
}

impl Site {
    /// The site that the arguments name; refused if a demo has been there. Nothing is made yet.
    pub async fn choose(args: &Args, state_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let databases = Databases::of(args)?;
        let temporary = match state_dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("rekey-demo-").tempdir()?),
        };
        let own = temporary.as_ref().map(|dir| dir.path().join("state"));
        let config = databases.as_ref().map(|databases| config(databases, args));
        let mut places = Places::resolve(state_dir.or(own), config.unwrap_or_default())?;
        let bundles = places.file("backups");
        places.config.destinations.push(DestinationConfig {
            name: "local".parse().expect("it is a name of a destination"),
            url: format!("file://{}", bundles.display()),
            place: "the demo".to_owned(),
        });
        let site = Self {
            places,
            databases,
            temporary,
        };
        match &site.databases {
            Some(found) => found.refuse_if_there().await?,
            None => site.refuse_used_directory()?,
        }
        Ok(site)
    }

    fn refuse_used_directory(&self) -> anyhow::Result<()> {
        let file = self.source_file();
        if file.exists() {
            let why = format!(
                "{} is there already; a demo starts on an empty directory",
                file.display()
            );
            return Err(OperationError::Refused(why).into());
        }
        Ok(())
    }

    fn source_file(&self) -> PathBuf {
        self.places.file("source.db")
    }

    /// Makes the directory, the schemas and what the broker needs: all of it, or nothing that stays.
    pub async fn make(&self) -> anyhow::Result<()> {
        self.places.create()?;
        let Some(databases) = &self.databases else {
            return Ok(());
        };
        self.places.declare().await?;
        if let Err(error) = databases.create().await {
            // What went wrong first is what helps.
            let _ = self.places.undeclare().await;
            return Err(error);
        }
        Ok(())
    }

    /// Does `work` unless SIGTERM or Ctrl-C come first: on servers, what stays must be said even then.
    pub async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        if self.databases.is_none() {
            return work.await;
        }
        let done = shutdown::on_signal()?.run_until_cancelled(work).await;
        done.unwrap_or_else(|| Err(anyhow!("stopped by a signal before the end")))
    }

    /// What it is, where it is more than a directory.
    pub fn describe(&self) -> Option<String> {
        let databases = self.databases.as_ref()?;
        let text = databases.describe();
        let over = match self.places.config.broker.url {
            Some(_) => "over RabbitMQ",
            None => "through the store",
        };
        Some(format!("{text}; messages travel {over}."))
    }

    /// Makes the clinic's table, empty.
    pub async fn open_clinic(&self) -> anyhow::Result<Box<dyn Clinic>> {
        Ok(match &self.databases {
            None => Box::new(SqliteClinic::create(&self.source_file()).await?),
            Some(databases) => {
                let schema = databases.source();
                let clinic = PostgresClinic::create(schema.options().clone()).await;
                Box::new(clinic.with_context(|| schema.database())?)
            }
        })
    }

    /// Where Rekey finds the clinic's table: the database's URL, and the table's name there.
    pub fn clinic(&self) -> (SecretUrl, &'static str) {
        match &self.databases {
            None => (sqlite_url(&self.source_file(), false).into(), "patients"),
            Some(databases) => (databases.source().url().clone(), PostgresClinic::RELATION),
        }
    }

    /// Leaves the site; answers what stays there and how to remove it.
    pub async fn leave(&self) -> Vec<String> {
        let Some(databases) = &self.databases else {
            return Vec::new();
        };
        let mut stays = Vec::new();
        if let Err(error) = self.places.undeclare().await {
            let prefix = &self.places.config.broker.prefix;
            stays.push(format!(
                "Exchanges and queues {prefix}* were not deleted: {error}"
            ));
        }
        for schema in databases.schemas() {
            stays.push(format!(
                "Kept         schema {SCHEMA} in {}",
                schema.database()
            ));
        }
        stays.push(format!(
            "             DROP SCHEMA {SCHEMA} CASCADE removes it; before that, no other demo starts there"
        ));
        stays
    }

    /// Commands to look at it next.
    pub fn next(&self) -> Vec<String> {
        let dir = self.places.file("").display().to_string();
        let kept = self.temporary.is_none();
        match &self.databases {
            None if kept => vec![
                format!("rekey --state-dir {dir} status"),
                format!("rekey --state-dir {dir} audit verify"),
            ],
            None => vec![
                "rekey --state-dir ./demo demo     keeps everything, for rekey --state-dir ./demo status"
                    .to_owned(),
            ],
            Some(databases) => databases.next(kept.then_some(&*dir)),
        }
    }
}

/// Names at the broker are this demo's alone, so that it meets neither a real deployment nor another demo.
fn config(databases: &Databases, args: &Args) -> Config {
    let broker = BrokerConfig {
        url: args.amqp_url.clone(),
        prefix: format!("{SCHEMA}.{:08x}.", rand::random::<u32>()),
    };
    let source = SourceConfig {
        name: "clinic".to_owned(),
        url: databases.source().url().clone(),
        limits: rekey_domain::Limits::default(),
        tables: Vec::new(),
    };
    Config {
        store: StoreConfig {
            url: Some(databases.store.store_url()),
            connections: None,
        },
        broker,
        sources: vec![source],
        ..Config::default()
    }
}
