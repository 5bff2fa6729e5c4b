//! Arguments of `rekey demo`; none of them may bring a password.

use clap::{ArgMatches, parser::ValueSource};
use rekey_runtime::config::SecretUrl;

use crate::exit::UsageError;

/// Arguments of `rekey demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Synthetic patients to make.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub rows: u32,
    /// Instead of asking for a rotation, reports the key as compromised: it is stopped and replaced at once.
    #[arg(long)]
    pub compromise: bool,
    /// At the end deletes the store and the master key, and brings all of it back from bundles with shares.
    #[arg(long, conflicts_with = "database_url")]
    pub disaster: bool,
    /// Runs on PostgreSQL, in a schema `rekey_demo` that it makes. With a password: only in the
    /// environment.
    #[arg(
        long,
        env = "REKEY_DEMO_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<SecretUrl>,
    /// Has the patients in another database than the store, there too in a schema `rekey_demo`.
    #[arg(
        long,
        env = "REKEY_DEMO_SOURCE_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "database_url"
    )]
    pub source_url: Option<SecretUrl>,
    /// Sends messages over RabbitMQ, through exchanges and queues that it makes and deletes.
    #[arg(
        long,
        env = "REKEY_DEMO_AMQP_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "database_url"
    )]
    pub amqp_url: Option<SecretUrl>,
}

impl Args {
    /// Refuses a password that others on this machine can read in the list of processes.
    pub fn refuse_passwords(&self, given: &ArgMatches) -> Result<(), UsageError> {
        for (id, url) in [
            ("database_url", &self.database_url),
            ("source_url", &self.source_url),
            ("amqp_url", &self.amqp_url),
        ] {
            let said = given.value_source(id) == Some(ValueSource::CommandLine);
            if said && url.as_ref().is_some_and(SecretUrl::has_password) {
                let (flag, variable) = (id.replace('_', "-"), id.to_uppercase());
                return Err(UsageError(format!(
                    "--{flag} has a password in it, and everybody on this machine can read arguments: \
                     say it as REKEY_DEMO_{variable} in the environment instead"
                )));
            }
        }
        Ok(())
    }
}
