//! `rekey publish`: an event that asks for something, from a file or stdin.

use std::{fs::File, path::PathBuf};

use anyhow::Context;
use rekey_messages::MAX_EVENT_BYTES;
use serde_json::json;

use crate::commands::input;
use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output},
};

/// What `publish` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CloudEvent in structured mode, as JSON of at most 64 KiB; - is stdin.
    file: PathBuf,
}

/// Publishes it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let limit = MAX_EVENT_BYTES as u64;
    let bytes = if args.file.as_os_str() == "-" {
        input::stdin("an event", limit)?
    } else {
        let name = args.file.display().to_string();
        let file = File::open(&args.file)
            .map_err(|error| UsageError(error.to_string()))
            .with_context(|| {
                format!("{name} cannot be read; expected a file with a CloudEvent, or - for stdin")
            })?;
        input::read(file, &name, limit)?
    };
    let event = rekey_operations::publish(&app.services, &bytes, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.request/v1", json!({ "event": event }))?,
        Output::Table => output::line(&format!(
            "published as event {event}; a running rotator handles it, rekey-rotator or rekey up"
        ))?,
    }
    Ok(Exit::Done)
}
