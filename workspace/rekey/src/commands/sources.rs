//! `rekey sources`: where protected values lie.

pub mod columns;

use rekey_operations::accept_database;
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

/// What can be said of sources.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say that a source is another database from now on, which holds the values of the one before; then
    /// rekey apply.
    Accept {
        /// The source, such as clinic.
        #[arg(value_name = "SOURCE")]
        source: String,
    },
}

/// Does what the command says.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    let Command::Accept { source } = command;
    let accepted = accept_database(&app.services, source, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.source-accepted/v1", json!(accepted))?,
        Output::Table => output::done(&format!(
            "source {source} is {} from now on; run rekey apply, then rekey census",
            accepted.now
        )),
    }
    Ok(Exit::Done)
}
