//! `rekey restore`: keys come back from their bundles.

use std::path::PathBuf;

use rekey_operations::{HowToRestore, RestoredKey, RestoredStore, plan_restore, restore_store};
use serde_json::json;
use uuid::Uuid;

use super::recovery::read_shares;
use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output, time},
};

/// `rekey restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Everything of a deployment, into an empty store.
    #[arg(long)]
    all: bool,
    /// Files of shares of the RECOVERY key, where the KMS is lost: as many as its threshold says.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "all")]
    with_shares: Vec<PathBuf>,
    /// Which deployment, where destinations keep several.
    #[arg(long, value_name = "ID", requires = "all")]
    deployment: Option<Uuid>,
    /// Go on though no checkpoint tells which keys were reported or destroyed.
    #[arg(long, requires = "all")]
    without_checkpoint: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
}

impl Args {
    /// Whether it brings a whole deployment back, and if so whether the KMS is lost too.
    pub fn restores_all(&self) -> Option<bool> {
        self.all.then(|| !self.with_shares.is_empty() && !self.plan)
    }
}

/// Does it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if !args.all {
        let said = "say what to restore: --all".to_owned();
        return Err(UsageError(said).into());
    }
    let how = HowToRestore {
        deployment: args.deployment,
        shares: read_shares(&args.with_shares)?,
        without_checkpoint: args.without_checkpoint,
    };
    let restored = match args.plan {
        true => plan_restore(&app.services, &how, &app.principal).await?,
        false => restore_store(&app.services, &app.desired, &how, &app.principal).await?,
    };
    show(&restored, args.plan, app.output)?;
    Ok(Exit::Done)
}

fn show(restored: &RestoredStore, plan: bool, format: Output) -> anyhow::Result<()> {
    if format == Output::Json {
        let said = json!({ "restored": restored, "planned": plan });
        return Ok(output::object("rekey.restored/v1", said)?);
    }
    let row = |one: &RestoredKey| {
        [
            one.key.clone(),
            one.state.to_string(),
            one.destination.to_string(),
            one.bundle.clone(),
        ]
    };
    let rows = restored.keys.iter().map(row).collect();
    output::table(["KEY", "STATE", "FROM", "BUNDLE"], rows)?;
    for note in &restored.notes {
        output::note(&format!("passed over: {note}"));
    }
    match &restored.checkpoint {
        Some(age) => output::line(&format!(
            "states as checkpoint {} at {} knows them, of {}, signed by SIGNING key {}: what happened after it is not known",
            age.counter,
            age.destination,
            time(age.written_at),
            age.signed_by
        ))?,
        None => output::line(
            "no checkpoint was found: which keys were reported or destroyed is not known",
        )?,
    }
    let (keys, columns) = (restored.keys.len(), restored.columns);
    output::done(&match plan {
        true => format!("{keys} key(s) and {columns} column(s) would be brought back"),
        false => format!(
            "{keys} key(s) and {columns} column(s) of deployment {} are back; none of the keys encrypts, each keyring has a new primary key. Next: rekey apply, rekey columns check --count, rekey up",
            restored.deployment
        ),
    });
    Ok(())
}
