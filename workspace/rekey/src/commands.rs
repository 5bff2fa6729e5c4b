//! The commands of an operator; each group is a file.

mod audit;
mod backups;
pub mod certificate;
mod configuration;
mod dead_letters;
mod grants;
mod ids;
mod incidents;
mod input;
mod keys;
mod notify;
mod quarantine;
pub mod recovery;
pub mod restore;
mod rotations;
pub mod shell;
mod sources;
mod status;

use std::time::Duration;

use clap::Subcommand;
use tokio::time::timeout;

use crate::{
    app::App,
    exit::{self, Exit, NotInTime},
    output::Output,
};
pub use configuration::init::run as init;

/// What an operator can ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the keyrings, sources and columns of the configuration to the store.
    Apply(configuration::apply::Args),
    /// Replace a keyring's primary key, and move every row to the new one.
    Rotate(rotations::rotate::Args),
    /// Move rows below a keyring's primary key to it, as after a source was restored; no key is replaced.
    Sweep(rotations::sweep::Args),
    /// Report that others know a key: it is stopped and replaced at once, and every row is moved.
    Compromise(incidents::compromise::Args),
    /// Rotations: how far they are; pause, resume, cancel or retry one.
    #[command(subcommand)]
    Rotations(rotations::Command),
    /// Keys: their state, use and age. Never their material.
    #[command(subcommand)]
    Keys(keys::Command),
    /// The master key: which keys are under it, and replacing it.
    #[command(subcommand)]
    Master(keys::master::Command),
    /// Protected columns: which there are, whether they are as declared, releasing one.
    #[command(subcommand)]
    Columns(sources::columns::Command),
    /// Sources: saying that one is another database from now on.
    #[command(subcommand)]
    Sources(sources::Command),
    /// Incidents: what happened, who looks at it; taking one up, ending one.
    #[command(subcommand)]
    Incidents(incidents::Command),
    /// Alerts: states that wait for somebody.
    #[command(subcommand)]
    Alerts(incidents::alerts::Command),
    /// Channels by which people are told: which there are, and trying one out.
    #[command(subcommand)]
    Notify(notify::Command),
    /// Backups of keys: where their bundles are, whether they were proved; having that done now.
    #[command(subcommand)]
    Backups(backups::Command),
    /// The RECOVERY key, which opens bundles when the KMS is lost: making it, and checking its shares.
    #[command(subcommand)]
    Recovery(recovery::Command),
    /// Bring keys back from their bundles: one, or all of a deployment whose store is lost.
    Restore(restore::Args),
    /// Count the values of every protected column by key.
    Census,
    /// One screen of how things stand; exit code 3 if a person is needed.
    Status,
    /// Publish a CloudEvent that asks for something, such as rekey.rotation.requested.v1.
    Publish(rotations::publish::Args),
    /// Encrypt a value from stdin for a row, and print base64; with --ndjson many.
    Encrypt(keys::value::Args),
    /// Decrypt a value from stdin, base64 or bytes as they are; with --ndjson many.
    Decrypt(keys::value::Args),
    /// The rights that each worker needs at the databases, the KMS and the broker, and no more.
    Grants(grants::Args),
    /// The audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Values that could not be re-encrypted, each with its reason.
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Messages that were given up.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
}

/// What is done at once wherever everything answers.
const AT_ONCE: Duration = Duration::from_secs(60);

impl Command {
    /// How long it may take; None where that grows with tables, or with what comes by stdin.
    fn may_take(&self) -> Option<Duration> {
        match self {
            Self::Rotate(args) => args.is_done_at_once().then_some(AT_ONCE),
            Self::Sweep(args) => args.is_done_at_once().then_some(AT_ONCE),
            Self::Compromise(args) => args.is_done_at_once().then_some(AT_ONCE),
            Self::Status
            | Self::Incidents(_)
            | Self::Alerts(_)
            | Self::Notify(_)
            | Self::Recovery(_)
            | Self::Rotations(_)
            | Self::Keys(_)
            | Self::Sources(_)
            | Self::Grants(_)
            | Self::DeadLetters(_) => Some(AT_ONCE),
            _ => None,
        }
    }

    /// Whether it brings a whole deployment back, and if so whether the KMS is lost too.
    pub fn restores_all(&self) -> Option<bool> {
        match self {
            Self::Restore(args) => args.restores_all(),
            _ => None,
        }
    }

    /// Whether the command does or shows what it can without a KMS.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::Status
            | Self::Compromise(_)
            | Self::Incidents(_)
            | Self::Alerts(_)
            | Self::Notify(_)
            | Self::Keys(_)
            | Self::Backups(backups::Command::List | backups::Command::Show { .. })
            | Self::Recovery(recovery::Command::List | recovery::Command::CheckShare { .. })
            | Self::Census
            | Self::Grants(_)
            | Self::Audit(audit::Command::List { .. })
            | Self::Columns(
                sources::columns::Command::List | sources::columns::Command::Check(_),
            )
            | Self::Quarantine(quarantine::Command::List(_) | quarantine::Command::Show { .. })
            | Self::DeadLetters(dead_letters::Command::List(_)) => true,
            Self::Rotations(command) => command.only_looks(),
            Self::Rotate(args) => args.only_plans(),
            _ => false,
        }
    }
}

/// Does what the command says, within what it may take; where the store fails, says which it is.
///
/// # Errors
/// As [`run`], and [`NotInTime`].
pub async fn run_in_time(command: Command, app: &App) -> anyhow::Result<Exit> {
    let place = app.services.store.place();
    let within = command.may_take();
    let done = in_time(within, &place, run(command, app)).await;
    done.map_err(|error| match exit::is_of_the_store(&error) {
        true => error.context(place),
        false => error,
    })
}

async fn in_time(
    within: Option<Duration>,
    store: &str,
    running: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let Some(within) = within else {
        return running.await;
    };
    timeout(within, running).await.unwrap_or_else(|_| {
        let within = within.as_secs();
        let said = format!(
            "not done within {within} s: the store, {store}, a source or the KMS does not answer"
        );
        Err(NotInTime(said).into())
    })
}

/// Does what needs no deployment, before a configuration is read; `None` for every other command.
pub fn offline(command: &Command, output: Output) -> Option<anyhow::Result<Exit>> {
    match command {
        Command::Rotations(rotations::Command::VerifyCertificate(args)) if args.is_offline() => {
            Some(certificate::verify_offline(args, output))
        }
        _ => None,
    }
}

/// Does what the command says.
///
/// # Errors
/// What [`crate::exit::of_error`] gives an exit code.
pub async fn run(command: Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::Apply(args) => configuration::apply::run(&args, app).await,
        Command::Rotate(args) => rotations::rotate::run(&args, app).await,
        Command::Sweep(args) => rotations::sweep::run(&args, app).await,
        Command::Compromise(args) => incidents::compromise::run(&args, app).await,
        Command::Restore(args) => restore::run(&args, app).await,
        Command::Incidents(command) => incidents::run(&command, app).await,
        Command::Alerts(command) => incidents::alerts::run(&command, app).await,
        Command::Notify(command) => notify::run(&command, app).await,
        Command::Backups(command) => backups::run(&command, app).await,
        Command::Recovery(command) => recovery::run(&command, app).await,
        Command::Rotations(command) => rotations::run(&command, app).await,
        Command::Keys(command) => keys::run(&command, app).await,
        Command::Master(command) => keys::master::run(&command, app).await,
        Command::Columns(command) => sources::columns::run(&command, app).await,
        Command::Sources(command) => sources::run(&command, app).await,
        Command::Census => rotations::census::run(app).await,
        Command::Status => status::run(app).await,
        Command::Publish(args) => rotations::publish::run(&args, app).await,
        Command::Encrypt(args) => keys::value::encrypt(&args, app).await,
        Command::Decrypt(args) => keys::value::decrypt(&args, app).await,
        Command::Grants(args) => grants::run(&args, app).await,
        Command::Audit(command) => audit::run(&command, app).await,
        Command::Quarantine(command) => quarantine::run(&command, app).await,
        Command::DeadLetters(command) => dead_letters::run(&command, app).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_is_not_done_in_time_ends_and_names_the_store() {
        let never = std::future::pending();
        let ended = in_time(Some(Duration::ZERO), "PostgreSQL rekey at db:5432", never).await;
        let error = ended.unwrap_err();
        assert!(
            error.to_string().contains("PostgreSQL rekey at db:5432"),
            "{error}"
        );
        assert_eq!(exit::of_error(&error), Exit::OutOfReach, "{error}");
        let done = async { Ok(Exit::Done) };
        assert_eq!(in_time(Some(AT_ONCE), "", done).await.unwrap(), Exit::Done);
    }

    #[test]
    fn what_only_asks_the_store_has_a_deadline_and_what_grows_with_tables_has_none() {
        assert_eq!(Command::Status.may_take(), Some(AT_ONCE));
        assert_eq!(Command::Census.may_take(), None);
    }
}
