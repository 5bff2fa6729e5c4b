//! `rekey completions` and `rekey man`: what a shell and its user want to know of this program.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap_complete::{Shell, generate};
use serde_json::json;

use crate::{
    exit::Exit,
    output::{self, Output},
};

/// The shell to complete in.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Where manual pages go.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// A directory, made if it is not there, such as ~/.local/share/man/man1.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints a script that the shell reads at its start.
pub fn completions(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(args.shell, &mut command, name, &mut script);
    output::bytes(&script)?;
    Ok(Exit::Done)
}

/// Writes a page for the program and one for each of its commands.
pub fn man(args: &ManArgs, command: clap::Command, output: Output) -> anyhow::Result<Exit> {
    let directory = &args.directory;
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    written.with_context(|| {
        let place = directory.display();
        format!("manual pages cannot be written to {place}; name a directory that you may write to")
    })?;
    match output {
        Output::Json => output::object("rekey.man/v1", json!({ "directory": directory }))?,
        Output::Table => output::done(&format!("manual pages are in {}", directory.display())),
    }
    Ok(Exit::Done)
}
