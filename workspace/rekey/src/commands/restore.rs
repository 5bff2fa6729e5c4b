//! `rekey restore`: keys come back from their bundles.

use std::path::PathBuf;

use rekey_destinations::DestinationUrl;
use rekey_domain::KeyRef;
use rekey_operations::{
    BackupPlaces, CheckpointAge, HowToRestore, KeyCameBack, KeyChange, Reconciled, RestoredKey,
    RestoredStore, plan_reconcile, plan_restore, reconcile_store, restore_key, restore_store,
};
use serde_json::json;
use uuid::Uuid;

use super::recovery::read_shares;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, time},
};

/// `rekey restore`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["key", "all", "reconcile"])))]
pub struct Args {
    /// One key, which the store has lost or whose material does not open any more: phi/3, or its id.
    key: Option<KeyRef>,
    /// Everything of a deployment, into an empty store.
    #[arg(long)]
    all: bool,
    /// A store that was rolled back: tell it what it forgot, and encrypt again.
    #[arg(long)]
    reconcile: bool,
    /// Look at this place instead of the destinations of rekey.toml, such as file:///mnt/copy.
    #[arg(long, value_name = "URL", requires = "key")]
    from: Option<DestinationUrl>,
    /// Files of shares of the RECOVERY key, where the KMS is lost: as many as its threshold says.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "all")]
    with_shares: Vec<PathBuf>,
    /// Which deployment, where destinations keep several.
    #[arg(long, value_name = "ID", requires = "all")]
    deployment: Option<Uuid>,
    /// Go on though no checkpoint tells which keys were reported or destroyed.
    #[arg(long, requires = "all")]
    without_checkpoint: bool,
    /// Go on though keys that a checkpoint knows do not come back: values under them will not open.
    #[arg(long, conflicts_with = "key")]
    incomplete: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
}

impl Args {
    /// Whether it brings a whole deployment back, and if so whether the KMS is lost too.
    pub fn restores_all(&self) -> Option<bool> {
        self.all
            .then_some(!self.with_shares.is_empty() && !self.plan)
    }
}

/// Does it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    match &args.key {
        Some(key) => one(key, args, app).await,
        None if args.reconcile => reconcile(args, app).await,
        None => all(args, app).await,
    }
}

async fn all(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let how = HowToRestore {
        deployment: args.deployment,
        shares: read_shares(&args.with_shares)?,
        without_checkpoint: args.without_checkpoint,
        incomplete: args.incomplete,
    };
    let restored = match args.plan {
        true => plan_restore(&app.services, &how, &app.principal).await?,
        false => restore_store(&app.services, &app.desired, &how, &app.principal).await?,
    };
    show(&restored, args.plan, app.output)?;
    Ok(Exit::Done)
}

async fn one(key: &KeyRef, args: &Args, app: &App) -> anyhow::Result<Exit> {
    let kept = match &args.from {
        None => app.services.clone(),
        Some(url) => {
            let name = "from".parse().map_err(anyhow::Error::msg)?;
            let places = BackupPlaces::new([(name, url.clone())].into(), Vec::new(), None);
            app.services.clone().with_backups(places)
        }
    };
    let (services, desired) = ((&app.services, &kept), &app.desired);
    let came = restore_key(services, desired, key, args.plan, &app.principal).await?;
    let back = match &came {
        KeyCameBack::IsThere => None,
        KeyCameBack::Back(back) => Some(back),
    };
    if app.output == Output::Json {
        let said = json!({ "restored": back, "planned": args.plan });
        output::object("rekey.restored-key/v1", said)?;
        return Ok(Exit::Done);
    }
    output::done(&match (back, args.plan) {
        (None, _) => format!("{key} is there and opens: nothing is to be done"),
        (Some(back), true) => format!(
            "{} would come back from {} at {}, as {}",
            back.key, back.bundle, back.destination, back.state
        ),
        (Some(back), false) => format!(
            "{} is back from {} at {}, as {}; it never encrypts again",
            back.key, back.bundle, back.destination, back.state
        ),
    });
    Ok(Exit::Done)
}

async fn reconcile(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let (services, incomplete, plan) = (&app.services, args.incomplete, args.plan);
    let reconciled = match plan {
        true => plan_reconcile(services, incomplete, &app.principal).await?,
        false => reconcile_store(services, &app.desired, incomplete, &app.principal).await?,
    };
    if app.output == Output::Json {
        let said = json!({ "reconciled": reconciled, "planned": plan });
        output::object("rekey.reconciled/v1", said)?;
        return Ok(Exit::Done);
    }
    let Reconciled {
        because,
        checkpoint,
        changes,
        notes,
    } = &reconciled;
    output::line(because)?;
    let row = |one: &KeyChange| {
        let was = one
            .was
            .map_or("not known".to_owned(), |was| was.to_string());
        [one.key.clone(), was, one.becomes.to_string()]
    };
    output::table(
        ["KEY", "IN THE STORE", "BECOMES"],
        changes.iter().map(row).collect(),
    )?;
    passed_over(notes);
    output::line(&known_by(checkpoint))?;
    output::done(match plan {
        true => "each keyring would get a new primary key, and encryption would go on",
        false => {
            "the store is reconciled: each keyring has a new primary key, and encryption goes on; rekey audit verify says what of the record is lost"
        }
    });
    Ok(Exit::Done)
}

fn passed_over(notes: &[String]) {
    for note in notes {
        output::note(&format!("passed over: {note}"));
    }
}

fn known_by(age: &CheckpointAge) -> String {
    format!(
        "states as checkpoint {} at {} knows them, of {}, signed by SIGNING key {}: what happened after it is not known",
        age.counter,
        age.destination,
        time(age.written_at),
        age.signed_by
    )
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
    passed_over(&restored.notes);
    output::line(&match &restored.checkpoint {
        Some(age) => known_by(age),
        None => {
            "no checkpoint was found: which keys were reported or destroyed is not known".to_owned()
        }
    })?;
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
