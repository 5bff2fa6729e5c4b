//! `rekey quarantine retry`: has values tried again, and says what does it and when.

use rekey_domain::{ColumnName, KeyringName};
use rekey_operations::{QuarantineRetry, Retry, retry_quarantined};
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    commands::sweep,
    exit::Exit,
    output::{self, Output},
};

/// What `retry` takes; without anything all values are tried again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these values, and what else of the keyring stands in their tables.
    ids: Vec<Uuid>,
    /// Only those of this keyring, such as phi.
    #[arg(long, conflicts_with_all = ["column", "ids"])]
    keyring: Option<KeyringName>,
    /// Only those of this protected column, such as clinic.patients.ssn, and what else of the keyring
    /// stands in its table.
    #[arg(long, value_name = "COLUMN", conflicts_with = "ids")]
    column: Option<ColumnName>,
}

impl Args {
    fn which(&self) -> Retry {
        match (&self.keyring, &self.column) {
            (Some(keyring), _) => Retry::OfKeyring(keyring.clone()),
            (None, Some(column)) => Retry::OfColumn(column.clone()),
            (None, None) if self.ids.is_empty() => Retry::All,
            (None, None) => Retry::Values(self.ids.clone()),
        }
    }
}

/// Asks for it; exit code 3 where a rotation that is on hold would do it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let retries = retry_quarantined(&app.services, &args.which(), &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.quarantine-retry/v1", json!({ "retries": retries }))?,
        Output::Table if retries.is_empty() => {
            output::line("nothing of this is in quarantine: nothing to try again")?;
        }
        Output::Table => retries
            .iter()
            .try_for_each(|retry| output::line(&sentence(retry)))?,
    }
    let on_hold = retries
        .iter()
        .any(|retry| retry.sweep.paused_because.is_some());
    Ok(if on_hold {
        Exit::PersonNeeded
    } else {
        Exit::Done
    })
}

fn sentence(retry: &QuarantineRetry) -> String {
    let columns: Vec<_> = retry
        .sweep
        .columns
        .iter()
        .map(ToString::to_string)
        .collect();
    let what = format!(
        "tries {} value(s) of {} again",
        retry.values,
        columns.join(", ")
    );
    sweep::sentence(&retry.sweep, &what)
}
