//! `rekey master`: the key that wraps all others, and replacing it.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rekey_domain::KeyState;
use rekey_kms::Passphrase;
use rekey_operations::{
    KeysUnder, MasterReport, MasterRotation, MasterView, Reported, StartWith, change_passphrase,
    master_view, report_master_compromise, rotate_master,
};

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

/// What can be asked of the master key.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The master key that wraps now, and how many keys are under which.
    Show,
    /// Make a new master key and wrap every key anew under it; cut short, again goes on.
    Rotate {
        /// Make a new master key although keys are still under an earlier one.
        #[arg(long)]
        anew: bool,
    },
    /// It leaked, be it the present one or an earlier one: make another in the present one's place, have every key that was
    /// under it replaced at once, and wrap every key anew; cut short, again goes on.
    Compromise {
        /// The master key's id, as show lists it.
        key: String,
        /// Why you think so; sealed in the audit log, and nowhere else.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Since when others know it, such as 2026-03-01T12:00:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<DateTime<Utc>>,
    },
    /// Seal the file of a local master key with a passphrase, so that whoever copies it has nothing.
    #[command(group = clap::ArgGroup::new("new").required(true))]
    Passphrase {
        /// A file with the new passphrase, private to you; say it as kms.passphrase_file afterwards.
        #[arg(long, value_name = "FILE", group = "new")]
        new_file: Option<PathBuf>,
        /// Take the passphrase away.
        #[arg(long, group = "new")]
        none: bool,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::Show => show(app).await,
        Command::Rotate { anew } => rotate(app, *anew).await,
        Command::Compromise { key, reason, since } => {
            let report = MasterReport {
                master_key: key.clone(),
                reason: reason.clone(),
                since: *since,
            };
            compromise(app, &report).await
        }
        Command::Passphrase { new_file, .. } => passphrase(app, new_file.as_deref()).await,
    }
}

async fn show(app: &App) -> anyhow::Result<Exit> {
    let view = master_view(&app.services, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.master-key/v1", serde_json::to_value(&view)?)?,
        Output::Table => {
            let head = ["MASTER KEY", "PROVIDER", "STATE", "KEYS"];
            let rows = view.keys.iter().map(|under| row(&view, under));
            output::table(head, rows.collect())?;
        }
    }
    Ok(Exit::Done)
}

/// Of master keys before it only the KMS knows the state.
fn row(view: &MasterView, under: &KeysUnder) -> [String; 4] {
    let name = under.master_key.clone();
    let state = if under.current {
        &view.state
    } else {
        "earlier"
    };
    [
        name.unwrap_or_else(|| "(not known)".to_owned()),
        view.provider.to_owned(),
        state.to_owned(),
        under.keys.to_string(),
    ]
}

async fn rotate(app: &App, anew: bool) -> anyhow::Result<Exit> {
    let start = if anew {
        StartWith::NewMasterKey
    } else {
        StartWith::WhatIsLeft
    };
    let rotation = rotate_master(&app.services, start, &app.principal).await?;
    match app.output {
        Output::Json => {
            output::object("rekey.master-rotation/v1", serde_json::to_value(&rotation)?)?;
        }
        Output::Table => report(&rotation)?,
    }
    Ok(if rotation.failed.is_empty() {
        Exit::Done
    } else {
        Exit::PersonNeeded
    })
}

async fn compromise(app: &App, said: &MasterReport) -> anyhow::Result<Exit> {
    let reported = report_master_compromise(&app.services, said, &app.principal).await?;
    let is_whole = reported.rotation.failed.is_empty();
    match app.output {
        Output::Json => {
            output::object(
                "rekey.master-compromise/v1",
                serde_json::to_value(&reported)?,
            )?;
        }
        Output::Table => {
            report(&reported.rotation)?;
            for key in &reported.reported {
                output::line(&replaced(key))?;
            }
        }
    }
    Ok(match is_whole {
        true => Exit::Done,
        false => Exit::PersonNeeded,
    })
}

fn replaced(reported: &Reported) -> String {
    let Reported { incident, key, .. } = reported;
    let is_primary = reported.state == KeyState::Active || reported.replaced_by.is_some();
    match reported.rotation {
        Some(rotation) if is_primary => {
            format!("incident {incident}: {key} is replaced by rotation {rotation}")
        }
        Some(rotation) => {
            format!(
                "incident {incident}: {key} is stopped, and rotation {rotation} moves what it finds under it"
            )
        }
        None => format!("incident {incident}: {key} was reported"),
    }
}

/// One of both is said: without a file there is none from now on.
async fn passphrase(app: &App, new_file: Option<&Path>) -> anyhow::Result<Exit> {
    let new = match new_file {
        Some(file) => Some(Passphrase::read(file).await?),
        None => None,
    };
    let kms = app.places.local_kms().await?;
    change_passphrase(&app.services, kms, new, &app.principal).await?;
    output::done(&match new_file {
        Some(file) => format!(
            "a passphrase seals the master key file; say kms.passphrase_file = {file:?} and start the workers again"
        ),
        None => "the master key file lies open; leave kms.passphrase_file out and start the workers again".to_owned(),
    });
    Ok(Exit::Done)
}

fn report(rotation: &MasterRotation) -> std::io::Result<()> {
    let MasterRotation {
        master_key,
        rewrapped,
        ..
    } = rotation;
    output::line(&match (rotation.made, rewrapped) {
        (true, _) => {
            format!("made master key {master_key}; {rewrapped} key(s) wrapped anew under it")
        }
        (false, 0) if rotation.failed.is_empty() => {
            format!("master key {master_key} wraps, and every key is under it already")
        }
        (false, _) => {
            format!(
                "went on with master key {master_key}; {rewrapped} key(s) wrapped anew under it"
            )
        }
    })?;
    for failed in &rotation.failed {
        output::line(&format!("  {} is not: {}", failed.key, failed.problem))?;
    }
    output::note("the master key before it must stay: backups of the store are under it");
    Ok(())
}
