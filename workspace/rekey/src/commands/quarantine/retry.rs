//! `rekey quarantine retry`: has values tried again, and says what does it and when.

use rekey_domain::{ColumnName, KeyringName};
use rekey_operations::{QuarantineRetry, Retry, retry_quarantined};
use serde_json::json;
use uuid::Uuid;

use crate::commands::ids::Id;
use crate::{
    app::App,
    commands::rotations::{self, sweep},
    exit::Exit,
    output::{self, Output},
};

/// What `retry` takes; without anything all values are tried again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these values, and what else of the keyring stands in their tables. What was written after its key was
    /// compromised is moved only where it is named here.
    ids: Vec<Id>,
    /// Only those of this keyring, such as phi.
    #[arg(long, conflicts_with_all = ["column", "ids"])]
    keyring: Option<KeyringName>,
    /// Only those of this protected column, such as clinic.patients.ssn, and what else of the keyring
    /// stands in its table.
    #[arg(long, value_name = "COLUMN", conflicts_with = "ids")]
    column: Option<ColumnName>,
}

impl Args {
    async fn which(&self, app: &App) -> anyhow::Result<Retry> {
        let ids = super::typed::whole(&self.ids, app).await?;
        Ok(self.of(ids))
    }

    fn of(&self, ids: Vec<Uuid>) -> Retry {
        match (&self.keyring, &self.column) {
            (Some(keyring), _) => Retry::OfKeyring(keyring.clone()),
            (None, Some(column)) => Retry::OfColumn(column.clone()),
            (None, None) if ids.is_empty() => Retry::All,
            (None, None) => Retry::Values(ids),
        }
    }
}

/// Asks for it; exit code 3 where a rotation that is on hold would do it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let retries = retry_quarantined(&app.services, &args.which(app).await?, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.quarantine-retry/v1", json!({ "retries": retries }))?,
        Output::Table if retries.is_empty() => {
            output::line("nothing of this is in quarantine: nothing to try again")?;
        }
        Output::Table => retries
            .iter()
            .try_for_each(|retry| output::line(&sentence(retry)))?,
    }
    if !retries.is_empty() {
        rotations::note_missing_workers(app).await?;
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
