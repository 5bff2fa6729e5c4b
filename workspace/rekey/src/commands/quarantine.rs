//! `rekey quarantine`: values that could not be re-encrypted, why, trying them again, being done with one.

mod retry;
mod typed;

use rekey_domain::{ColumnName, QuarantineReason};
use rekey_operations::{
    QuarantineView, protected_column, quarantine_view, quarantine_views, resolve_quarantined,
};
use serde_json::json;
use uuid::Uuid;

use self::typed::{VALUE, known, whole};
use crate::commands::ids::{Id, RotationId};
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of values in quarantine.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that are not resolved.
    List(Which),
    /// One, with what its reason means and what helps.
    Show {
        /// Its id, or its beginning.
        id: Id,
    },
    /// Try those again whose cause is mended; what can be moved now is moved and resolved.
    Retry(retry::Args),
    /// Be done with some; the rows themselves stay as they are.
    #[command(group = clap::ArgGroup::new("chosen").required(true).multiple(true).args(["ids", "rotation", "column", "reason", "all"]))]
    Resolve {
        /// Their ids, or their beginnings.
        #[arg(conflicts_with_all = ["rotation", "column", "reason", "all"])]
        ids: Vec<Id>,
        #[command(flatten)]
        which: Which,
        /// All of them.
        #[arg(long, conflicts_with_all = ["rotation", "column", "reason"])]
        all: bool,
        /// Why; for the audit log.
        #[arg(long, value_name = "WHY")]
        because: String,
    },
}

/// Which values.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Only of this protected column, such as clinic.patients.ssn.
    #[arg(long, value_name = "COLUMN")]
    column: Option<ColumnName>,
    /// Only for this reason: missing-key, unopened, wrong-context, other-keyring, not-ciphertext,
    /// not-written, unreadable, never-active or written-after-compromise.
    #[arg(long)]
    reason: Option<QuarantineReason>,
    /// Only those that this rotation met last.
    #[arg(long, value_name = "ROTATION")]
    rotation: Option<RotationId>,
}

impl Which {
    async fn views(&self, app: &App) -> anyhow::Result<Vec<QuarantineView>> {
        if let Some(column) = &self.column {
            // Nothing of a column that there is not would look like nothing at all.
            protected_column(&app.services, column, &app.principal).await?;
        }
        let mut views = quarantine_views(&app.services, &app.principal).await?;
        let rotation = match &self.rotation {
            Some(rotation) => Some(rotation.find(app).await?),
            None => None,
        };
        views.retain(|view| {
            self.column.as_ref().is_none_or(|one| view.column == *one)
                && self.reason.is_none_or(|one| view.reason == one)
                && rotation.is_none_or(|one| view.rotation == one)
        });
        Ok(views)
    }
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List(which) => list(&which.views(app).await?, app.output)?,
        Command::Show { id } => {
            let id = id.of(VALUE, known(std::slice::from_ref(id), app).await?)?;
            show(
                &quarantine_view(&app.services, id, &app.principal).await?,
                app.output,
            )?;
        }
        Command::Retry(args) => return retry::run(args, app).await,
        Command::Resolve {
            ids,
            which,
            because,
            ..
        } => {
            let mut ids = whole(ids, app).await?;
            if ids.is_empty() {
                ids = which.views(app).await?.iter().map(|view| view.id).collect();
            }
            resolve(&ids, because, app).await?;
        }
    }
    Ok(Exit::Done)
}

async fn resolve(ids: &[Uuid], because: &str, app: &App) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Ok(output::line(
            "nothing of this is in quarantine: nothing to resolve",
        )?);
    }
    resolve_quarantined(&app.services, ids, because, &app.principal).await?;
    if let [one] = ids {
        return show(
            &quarantine_view(&app.services, *one, &app.principal).await?,
            app.output,
        );
    }
    if app.output == Output::Json {
        let object = json!({ "resolved": ids });
        return Ok(output::object("rekey.quarantine-resolved/v1", object)?);
    }
    Ok(output::line(&format!("resolved {} value(s)", ids.len()))?)
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
