//! `rekey status`: one screen of how things stand.

use rekey_operations::{DestinationView, Status, WorkerView};

use crate::commands::rotations;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional},
};

/// Prints it; exit code 3 if a person is needed.
pub async fn run(app: &App) -> anyhow::Result<Exit> {
    let status = rekey_operations::status(&app.services, &app.principal).await?;
    match app.output {
        Output::Json => {
            let mut value = json(&status)?;
            value["store"] = app.services.store.place().into();
            output::object("rekey.status/v1", value)?;
        }
        Output::Table => {
            output::line(&format!("store: {}", app.services.store.place()))?;
            output::line("")?;
            print(&status)?;
        }
    }
    Ok(if status.needs_a_person.is_empty() {
        Exit::Done
    } else {
        Exit::PersonNeeded
    })
}

/// The keyrings as objects: programs read names, not places in a list.
fn json(status: &Status) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(status)?;
    let keyring = |(name, primary): &(String, Option<_>)| serde_json::json!({ "keyring": name, "primary": primary });
    value["keyrings"] = status.keyrings.iter().map(keyring).collect();
    Ok(value)
}

fn workers(workers: &[WorkerView]) -> std::io::Result<()> {
    let row = |worker: &WorkerView| {
        let lacks = worker.lacks.clone().unwrap_or_default();
        [
            worker.worker.clone(),
            worker.place.clone(),
            optional(worker.seen_at.map(output::time).as_ref()),
            if worker.silent {
                "gone".to_owned()
            } else {
                lacks
            },
        ]
    };
    output::table(
        ["WORKER", "PLACE", "SEEN", "LACKS"],
        workers.iter().map(row).collect(),
    )
}

/// What is known and needs nobody: it is so until the configuration says otherwise.
fn backups(status: &Status) -> std::io::Result<()> {
    let says = |one: &DestinationView| {
        let erasable = one.erasable?.says();
        Some(format!("destination {}: {erasable}", one.destination))
    };
    let places = status.destinations.iter().filter_map(says);
    places
        .into_iter()
        .try_for_each(|line| output::line(&line))?;
    if status.without_backup.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = status
        .without_backup
        .iter()
        .map(ToString::to_string)
        .collect();
    output::line(&format!(
        "keys of {} need no backup: docs/backups.md says how to begin",
        names.join(", ")
    ))
}

fn print(status: &Status) -> std::io::Result<()> {
    let keyrings = status
        .keyrings
        .iter()
        .map(|(name, primary)| [name.clone(), optional(primary.as_ref())]);
    output::table(["KEYRING", "PRIMARY KEY"], keyrings.collect())?;
    if !status.workers.is_empty() {
        output::line("")?;
        workers(&status.workers)?;
    }
    if !status.rotations.is_empty() {
        output::line("")?;
        rotations::table(&status.rotations)?;
        for rotation in &status.rotations {
            for why in &rotation.waiting {
                output::line(&format!("rotation {} waits: {why}", rotation.id))?;
            }
        }
    }
    let Status {
        quarantined,
        dead_letters,
        outbox,
        ..
    } = status;
    output::line("")?;
    output::line(&format!(
        "{quarantined} value(s) in quarantine, {dead_letters} dead letter(s), {outbox} message(s) waiting"
    ))?;
    backups(status)?;
    match status.unsigned_certificates.len() {
        0 => {}
        count => output::line(&format!("{count} certificate(s) unsigned so far"))?,
    }
    if status.needs_a_person.is_empty() {
        return output::line("nothing needs a person");
    }
    output::line("")?;
    output::line("needs a person:")?;
    status
        .needs_a_person
        .iter()
        .try_for_each(|need| output::line(&format!("  {need}")))
}
