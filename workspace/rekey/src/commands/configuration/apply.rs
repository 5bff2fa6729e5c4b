//! `rekey apply`: writes the configuration to the store, or says what it would write.

use rekey_domain::KeyringName;
use rekey_operations::{Change, Desired};
use serde_json::json;

use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output},
};

/// What `apply` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what would change.
    #[arg(long)]
    plan: bool,
}

/// Applies, or plans. Planning comes first in any case: it looks at every source, so that no keyring
/// is made for a configuration that cannot be applied.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    check_channels(app)?;
    let missing =
        rekey_operations::missing_keyrings(&app.services, &app.desired, &app.principal).await?;
    let mut changes: Vec<_> = missing.iter().map(created).collect();
    let (present, later) = without(&app.desired, &missing);
    let planned = rekey_operations::plan(&app.services, &present, &app.principal).await?;
    if args.plan {
        changes.extend(planned);
        changes.extend(later);
    } else {
        if !missing.is_empty() {
            rekey_operations::init(&app.services, &app.desired, &app.principal).await?;
        }
        changes.extend(rekey_operations::apply(&app.services, &app.desired, &app.principal).await?);
    }
    print(&changes, !args.plan, app.output)?;
    Ok(Exit::Done)
}

/// What is wrong with a channel's files is said now. They may also be where the notifier runs, and not here.
fn check_channels(app: &App) -> anyhow::Result<()> {
    if let Err(problem) = rekey_incident_notifier::check_heartbeat(&app.places.monitoring()) {
        let said = format!("monitoring.heartbeat_url {problem}");
        return Err(UsageError(said).into());
    }
    for (index, channel) in app.desired.channels.iter().enumerate() {
        let Err(problem) = rekey_incident_notifier::check(channel) else {
            continue;
        };
        let said = format!("channel[{index}].{problem}");
        if !problem.is_missing {
            return Err(UsageError(said).into());
        }
        output::note(&format!("{said}; it has to be where the notifier runs"));
    }
    Ok(())
}

fn created(keyring: &KeyringName) -> Change {
    Change {
        subject: format!("keyring {keyring}"),
        change: "created, with its first keys".to_owned(),
    }
}

/// What can be planned while these keyrings are not there, and what they will change.
fn without(desired: &Desired, missing: &[KeyringName]) -> (Desired, Vec<Change>) {
    let mut desired = desired.clone();
    let mut later = Vec::new();
    desired
        .keyrings
        .retain(|keyring| !missing.contains(&keyring.name));
    for source in &mut desired.sources {
        for table in &mut source.tables {
            let place = format!("{}.{}", source.name, table.name);
            table.columns.retain(|column| {
                let waits = missing.contains(&column.keyring);
                if waits {
                    let subject = format!("column {place}.{}", column.name);
                    later.push(Change {
                        subject,
                        change: format!("protected by {}", column.keyring),
                    });
                }
                !waits
            });
        }
    }
    (desired, later)
}

fn print(changes: &[Change], applied: bool, output: Output) -> std::io::Result<()> {
    if output == Output::Json {
        return output::object(
            "rekey.changes/v1",
            json!({ "applied": applied, "changes": changes }),
        );
    }
    if changes.is_empty() {
        return output::line("nothing to change: the store is as the configuration says");
    }
    let rows = changes
        .iter()
        .map(|change| [change.subject.clone(), change.change.clone()]);
    output::table(
        [if applied { "CHANGED" } else { "WOULD CHANGE" }, "HOW"],
        rows.collect(),
    )
}
