//! `rekey quarantine`: values that could not be re-encrypted, why, trying them again, being done with one.

mod retry;

use rekey_domain::QuarantineReason;
use rekey_operations::{QuarantineView, quarantine_view, quarantine_views, resolve_quarantined};
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of values in quarantine.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that are not resolved.
    List {
        /// Only of this protected column, such as clinic.patients.ssn.
        #[arg(long, value_name = "COLUMN")]
        column: Option<String>,
        /// Only for this reason: missing-key, unopened, wrong-context, other-keyring, not-ciphertext,
        /// not-written or unreadable.
        #[arg(long)]
        reason: Option<QuarantineReason>,
    },
    /// One, with what its reason means and what helps.
    Show {
        /// Its id.
        id: Uuid,
    },
    /// Try those again whose cause is mended; what can be moved now is moved and resolved.
    Retry(retry::Args),
    /// Be done with one; the row itself stays as it is.
    Resolve {
        /// Its id.
        id: Uuid,
        /// Why; for the audit log.
        #[arg(long, value_name = "WHY")]
        because: String,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List { column, reason } => {
            let mut views = quarantine_views(&app.services).await?;
            views.retain(|view| {
                let of_column = column
                    .as_ref()
                    .is_none_or(|one| view.column.to_string() == *one);
                of_column && reason.is_none_or(|one| view.reason == one)
            });
            list(&views, app.output)?;
        }
        Command::Show { id } => show(&quarantine_view(&app.services, *id).await?, app.output)?,
        Command::Retry(args) => return retry::run(args, app).await,
        Command::Resolve { id, because } => {
            resolve_quarantined(&app.services, *id, because, &app.principal).await?;
            show(&quarantine_view(&app.services, *id).await?, app.output)?;
        }
    }
    Ok(Exit::Done)
}

fn list(views: &[QuarantineView], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let object = json!({ "values": views });
        return Ok(output::object("rekey.quarantine/v1", object)?);
    }
    let row = |view: &QuarantineView| {
        [
            view.id.to_string(),
            view.column.to_string(),
            view.row.clone(),
            view.reason.to_string(),
            key(view),
            time(view.found_at),
        ]
    };
    let head = ["VALUE", "COLUMN", "ROW", "REASON", "KEY", "MET"];
    Ok(output::table(head, views.iter().map(row).collect())?)
}

fn show(view: &QuarantineView, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let object = serde_json::to_value(view)?;
        return Ok(output::object("rekey.quarantined-value/v1", object)?);
    }
    let rows = [
        ("value", view.id.to_string()),
        ("column", view.column.to_string()),
        ("row", view.row.clone()),
        ("place", view.place.clone()),
        ("reason", view.reason.to_string()),
        ("meaning", view.reason.meaning().to_owned()),
        ("detail", optional(view.detail.clone())),
        ("what helps", what_helps(view)),
        ("key", key(view)),
        ("key's state", optional(view.found_key_state)),
        ("rotation", view.rotation.to_string()),
        ("met", time(view.found_at)),
        ("resolved", optional(view.resolved_at.map(time))),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), value]);
    Ok(output::table(["", ""], rows.to_vec())?)
}

fn what_helps(view: &QuarantineView) -> String {
    let helps = view.reason.what_helps();
    match view.resolved_at {
        Some(_) => helps.to_owned(),
        None => format!("{helps}; then rekey quarantine retry {}", view.id),
    }
}

/// The key as people name it; of one that is not ours its id.
fn key(view: &QuarantineView) -> String {
    match &view.found_key {
        Some(name) => name.to_string(),
        None => optional(view.found_key_id),
    }
}
