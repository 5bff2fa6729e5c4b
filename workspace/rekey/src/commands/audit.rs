//! `rekey audit`: who did what, and whether the log is whole.

use rekey_operations::{audit_entry, latest_audit_entries};
use rekey_store::audit::AuditEntry;
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

const HEAD: [&str; 7] = [
    "ENTRY",
    "TIME",
    "PRINCIPAL",
    "ACTION",
    "SUBJECT",
    "OUTCOME",
    "WRITTEN BY",
];

/// What can be asked of the audit log.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The latest entries; their details stay sealed.
    List {
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// One entry, with its details opened.
    Show {
        /// Its number, as list prints it.
        entry: i64,
    },
    /// Recompute the chain and open every detail; exit code 1 if anything was changed.
    Verify,
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List { limit } => list(app, *limit).await,
        Command::Show { entry } => show(app, *entry).await,
        Command::Verify => verify(app).await,
    }
}

async fn list(app: &App, limit: u32) -> anyhow::Result<Exit> {
    let latest = latest_audit_entries(&app.services, limit, &app.principal).await?;
    let entries = latest.iter();
    match app.output {
        Output::Json => {
            let entries: Vec<_> = entries.map(entry_json).collect();
            output::object("rekey.audit/v1", json!({ "entries": entries }))?;
        }
        Output::Table => {
            output::table(HEAD, entries.map(entry_row).collect())?;
        }
    }
    Ok(Exit::Done)
}

async fn show(app: &App, sequence: i64) -> anyhow::Result<Exit> {
    let (entry, details) = audit_entry(&app.services, sequence, &app.principal).await?;
    let details = details.unwrap_or_default();
    if app.output == Output::Json {
        let mut value = entry_json(&entry);
        value["details"] = details;
        output::object("rekey.audit-entry/v1", value)?;
        return Ok(Exit::Done);
    }
    let mut rows: Vec<_> = HEAD
        .into_iter()
        .zip(entry_row(&entry))
        .map(|(name, value)| [name.to_lowercase(), value])
        .collect();
    let opened = (!details.is_null()).then(|| details.to_string());
    rows.push(["details".to_owned(), output::optional(opened)]);
    output::table(["", ""], rows)?;
    Ok(Exit::Done)
}

fn entry_json(entry: &AuditEntry) -> serde_json::Value {
    let hash = hex::encode(&entry.hash);
    json!({
        "sequence": entry.sequence,
        "time": entry.time,
        "principal": entry.principal(),
        "action": entry.action,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "hash": hash,
        "written_by": entry.written_by,
    })
}

fn entry_row(entry: &AuditEntry) -> [String; 7] {
    [
        entry.sequence.to_string(),
        output::time(entry.time),
        entry.principal().to_string(),
        entry.action.clone(),
        entry.subject.clone(),
        entry.outcome.clone(),
        output::optional(entry.written_by.as_ref()),
    ]
}

async fn verify(app: &App) -> anyhow::Result<Exit> {
    let verdict = rekey_operations::verify_audit(&app.services, &app.principal).await?;
    let whole = verdict.problems.is_empty();
    match app.output {
        Output::Json => {
            let mut value = serde_json::to_value(&verdict)?;
            value["whole"] = json!(whole);
            output::object("rekey.audit-verdict/v1", value)?;
        }
        Output::Table if whole => {
            let entries = verdict.entries;
            output::line(&format!("the audit log is whole: {entries} entries"))?;
        }
        Output::Table => {
            let count = verdict.problems.len();
            output::line(&format!(
                "the audit log is broken: {count} problem(s) in {} entries; keep the store as it is and find who could write to it",
                verdict.entries
            ))?;
            verdict
                .problems
                .iter()
                .try_for_each(|problem| output::line(&format!("  {problem}")))?;
        }
    }
    if app.output == Output::Table {
        let notes = verdict.notes.iter();
        notes
            .map(|note| format!("note: {note}"))
            .try_for_each(|note| output::line(&note))?;
    }
    Ok(if whole { Exit::Done } else { Exit::Failed })
}
