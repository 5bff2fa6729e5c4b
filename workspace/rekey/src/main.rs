//! The operator's command line, and every worker in one process.

mod app;
mod commands;
mod demo;
mod exit;
mod output;
mod up;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use rekey_deployment::Places;
use rekey_operations::Desired;
use rekey_runtime::{config::Config, hardening, telemetry};

use crate::{app::App, commands::shell, exit::Exit, output::Output};

/// Rotate the keys that encrypt your data, and every row they protect.
#[derive(Debug, Parser)]
#[command(name = "rekey", version, propagate_version = true)]
struct Cli {
    /// Keeps everything: store.db, master.key. Default: rekey in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, global = true, env = "REKEY_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The configuration. Default: rekey.toml here, if there is one.
    #[arg(long, global = true, env = "REKEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole rotation on synthetic patients, with an application writing all the while.
    Demo(demo::Args),
    /// Run every worker in this process until SIGTERM.
    Up(UpArgs),
    /// Make the master key, the store, and the first keys of each keyring; again changes nothing.
    Init,
    /// Bring the store's schema up to date.
    Migrate,
    /// Print completions for a shell: `source <(rekey completions bash)`.
    Completions(shell::CompletionsArgs),
    /// Write manual pages, one for each command.
    Man(shell::ManArgs),
    #[command(flatten)]
    Other(commands::Command),
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    /// Serves /livez, /readyz and /metrics here.
    #[arg(
        long,
        env = "REKEY_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    hardening::install_tls_provider();
    if let Err(error) = hardening::harden() {
        output::note(&format!("core dumps could not be switched off: {error}"));
    }
    let given = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    telemetry::init(if matches!(cli.command, Command::Up(_)) {
        "info"
    } else {
        "error"
    });
    let exit = match run(cli, &given).await {
        Ok(exit) => exit,
        Err(error) => {
            output::error(&error);
            exit::of_error(&error)
        }
    };
    ExitCode::from(exit as u8)
}

async fn run(cli: Cli, given: &ArgMatches) -> anyhow::Result<Exit> {
    let Cli {
        state_dir,
        config,
        output,
        command,
    } = cli;
    // What needs no deployment comes first.
    match &command {
        Command::Demo(args) => {
            let (_, given) = given.subcommand().expect("the demo is one");
            args.refuse_passwords(given)?;
            return demo::run(args, state_dir, output).await;
        }
        Command::Completions(args) => return shell::completions(args, Cli::command()),
        Command::Man(args) => return shell::man(args, Cli::command(), output),
        _ => {}
    }
    if let Command::Other(command) = &command
        && let Some(done) = commands::offline(command, output)
    {
        return done;
    }
    let config = load(config)?;
    let desired = Desired::from(&config);
    let places = Places::resolve(state_dir, config)?;
    let places = match command {
        Command::Up(_) => places,
        _ => places.for_a_command(),
    };
    match command {
        Command::Init => {
            let (app, master_key) = App::create(places, desired, output).await?;
            commands::init(&app, master_key).await
        }
        Command::Migrate => {
            places.open_store().await?.migrate().await?;
            places.declare().await?;
            output::done("the schema is up to date");
            Ok(Exit::Done)
        }
        Command::Up(UpArgs { listen }) => {
            let app = App::open(places, desired, output).await?;
            up::run(&app, listen).await?;
            Ok(Exit::Done)
        }
        Command::Other(command) => {
            let app = if let Some(with_shares) = command.restores_all() {
                App::create_to_restore(places, desired, output, with_shares).await?
            } else if command.only_looks() {
                App::open_to_look(places, desired, output).await?
            } else {
                App::open(places, desired, output).await?
            };
            commands::run_in_time(command, &app).await
        }
        Command::Demo(_) | Command::Completions(_) | Command::Man(_) => {
            unreachable!("handled above")
        }
    }
}

/// Reads the configuration, and says what in it has no effect yet.
fn load(named: Option<PathBuf>) -> anyhow::Result<Config> {
    let here = PathBuf::from("rekey.toml");
    let file = named.or_else(|| here.exists().then_some(here));
    let config = Config::load(file.as_deref())?;
    for without in &config.without_effect {
        output::note(&format!("{}: {}", without.key, without.problem));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
