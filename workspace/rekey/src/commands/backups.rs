//! `rekey backups`: the keys' bundles, whether they were proved, and having that done now.

use std::time::Duration;

use rekey_domain::{Erasable, KeyRef, Worker};
use rekey_operations::{
    BackupView, BundleView, DeploymentBackupView, DestinationView, DrillView, Left, Pruned,
    backup_views, deployment_backup_views, destination_views, key_backups, plan_pruning,
    prune_backups, request_backups, verify_backups, works,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    app::App,
    exit::{Exit, NotInTime},
    output::{self, Output, optional, time},
};

/// A verifier that works has done what was asked within this.
const WITHIN: Duration = Duration::from_secs(60);
/// What was tried while this was asked for is tried once more by then.
const TRIED_AGAIN: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What can be asked of backups.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Each key at each destination, and what its last drill found; exit code 3 if one is not proved.
    List,
    /// Everything that is known of one key's backups.
    Show {
        /// The key: phi/3, or its id.
        key: KeyRef,
    },
    /// Have keys backed up and proved as soon as can be: one, or every.
    Create {
        /// The key: phi/3, or its id.
        key: Option<KeyRef>,
        /// Wait until the verifier has done it; exit code 3 if a backup is not proved then.
        #[arg(long)]
        wait: bool,
    },
    /// Take old bundles away, with credentials that may: never the newest of a key, never the one that was proved last.
    Prune {
        /// How many bundles of each key stay at each destination.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        keep: u16,
        /// Say which, and take none away.
        #[arg(long)]
        plan: bool,
    },
    /// Restore keys from their bundles now and here, and compare them; exit code 3 if one does not come back.
    Verify {
        /// The key: phi/3, or its id.
        key: Option<KeyRef>,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => print(app, None, of(None, app).await?).await,
        Command::Show { key } => show(key, app).await,
        Command::Create { key, wait } => create(key.as_ref(), *wait, app).await,
        Command::Prune { keep, plan } => prune(usize::from(*keep), *plan, app).await,
        Command::Verify { key } => {
            let looked = verify_backups(&app.services, key.as_ref(), &app.principal).await?;
            let exit = print(app, key.as_ref(), of(key.as_ref(), app).await?).await?;
            for line in &looked.not_learned {
                output::note(&format!("not looked at from here: {line}"));
            }
            let all = looked.failed == 0 && looked.not_learned.is_empty();
            Ok(if all { exit } else { Exit::PersonNeeded })
        }
    }
}

async fn of(key: Option<&KeyRef>, app: &App) -> anyhow::Result<Vec<BackupView>> {
    Ok(match key {
        Some(key) => {
            key_backups(&app.services, key, &app.principal)
                .await?
                .backups
        }
        None => backup_views(&app.services, &app.principal).await?,
    })
}

async fn create(key: Option<&KeyRef>, wait: bool, app: &App) -> anyhow::Result<Exit> {
    let before = app.services.store.now().await?;
    let asked = request_backups(&app.services, key, &app.principal).await?;
    if !wait {
        let keys = asked.keys.len();
        output::done(&format!(
            "{keys} key(s) are backed up next: rekey backups list"
        ));
        return Ok(Exit::Done);
    }
    if !works(&app.services, Worker::BackupVerifier).await? {
        output::note("no backup-verifier runs now: rekey up, or rekey-backup-verifier, does it");
    }
    let deadline = Instant::now() + WITHIN;
    let mut tried = None::<Instant>;
    loop {
        let views = of(key, app).await?;
        let is_tried = |view: &BackupView| view.tried_at.is_some_and(|at| at >= before);
        if views.iter().all(is_tried) {
            let since = *tried.get_or_insert_with(Instant::now);
            let deployment = deployment(key, app).await?;
            let is_unproved = |one: &DeploymentBackupView| one.problem.is_some();
            let bad = views.iter().any(is_bad) || deployment.iter().any(is_unproved);
            if !bad || since.elapsed() >= TRIED_AGAIN {
                return print(app, key, views).await;
            }
        }
        if Instant::now() >= deadline {
            let within = WITHIN.as_secs();
            let said = format!(
                "the verifier has not done it within {within} s; it goes on: rekey backups list, and rekey status says whether one runs"
            );
            return Err(NotInTime(said).into());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn prune(keep: usize, plan: bool, app: &App) -> anyhow::Result<Exit> {
    let pruning = match plan {
        true => plan_pruning(&app.services, keep, &app.principal).await?,
        false => prune_backups(&app.services, keep, &app.principal).await?,
    };
    let exit = match pruning.left.is_empty() {
        true => Exit::Done,
        false => Exit::PersonNeeded,
    };
    if app.output == Output::Json {
        let said = json!({ "pruned": pruning.pruned, "left": pruning.left, "planned": plan });
        output::object("rekey.backups-pruned/v1", said)?;
        return Ok(exit);
    }
    let row = |one: &Pruned| [one.destination.to_string(), one.bundle.clone()];
    let old = &pruning.pruned;
    output::table(["DESTINATION", "BUNDLE"], old.iter().map(row).collect())?;
    for Left {
        destination,
        of,
        why,
    } in &pruning.left
    {
        output::note(&format!("{of} at {destination}: nothing goes, as {why}"));
    }
    output::done(&match plan {
        true => format!("{} bundle(s) would go", old.len()),
        false => format!("{} bundle(s) are gone", old.len()),
    });
    Ok(exit)
}

fn is_bad(view: &BackupView) -> bool {
    view.problem.is_some() || !view.is_fresh
}

/// The deployment's own, where no key in particular is asked for.
async fn deployment(key: Option<&KeyRef>, app: &App) -> anyhow::Result<Vec<DeploymentBackupView>> {
    match key {
        Some(_) => Ok(Vec::new()),
        None => Ok(deployment_backup_views(&app.services, &app.principal).await?),
    }
}

async fn print(app: &App, key: Option<&KeyRef>, views: Vec<BackupView>) -> anyhow::Result<Exit> {
    let places = destination_views(&app.services, &app.principal).await?;
    let deployment = deployment(key, app).await?;
    let is_bad_too = |one: &DeploymentBackupView| one.problem.is_some() || one.proved_at.is_none();
    let bad = views.iter().any(is_bad) || deployment.iter().any(is_bad_too);
    match app.output {
        Output::Json => {
            let said =
                json!({ "backups": views, "deployment": deployment, "destinations": places });
            output::object("rekey.backups/v1", said)?;
        }
        Output::Table if views.is_empty() => output::line(
            "no key has a backup: the configuration has no [[destination]], or rekey apply was not run since",
        )?,
        Output::Table => {
            table(views, deployment)?;
            for place in &places {
                note(place);
            }
        }
    }
    Ok(match bad {
        true => Exit::PersonNeeded,
        false => Exit::Done,
    })
}

fn note(place: &DestinationView) {
    let (name, at) = (&place.destination, optional(place.place.as_ref()));
    let erasable = place.erasable.map_or(
        "nobody has tried yet whether what is there can be erased",
        Erasable::says,
    );
    output::note(&format!("{name}: {at}; {erasable}"));
}

fn table(views: Vec<BackupView>, deployment: Vec<DeploymentBackupView>) -> std::io::Result<()> {
    let of_deployment = |one: DeploymentBackupView| {
        let problem = one.problem.map(|problem| problem.says().to_owned());
        let (proved, none) = (optional(one.proved_at.map(time)), || "-".to_owned());
        let (name, at) = ("deployment".to_owned(), one.destination.to_string());
        [name, at, none(), proved, none(), none(), optional(problem)]
    };
    let row = |view: BackupView| {
        let problem = view.problem.map(|problem| problem.says().to_owned());
        let problem = problem.or(view.bundle.is_none().then(|| "not stored yet".to_owned()));
        let is_stale = view.proved_at.is_some() && !view.is_fresh;
        let stale = "its proof is too old, or dated ahead of the clock: does a verifier run?";
        let problem = problem.or(is_stale.then(|| stale.to_owned()));
        let recovery = match view.recovery {
            Some(_) => "yes",
            None => "no",
        };
        [
            view.key.to_string(),
            view.destination.to_string(),
            optional(view.stored_at.map(time)),
            optional(view.proved_at.map(time)),
            optional(view.opened),
            recovery.to_owned(),
            optional(problem),
        ]
    };
    let head = [
        "KEY",
        "DESTINATION",
        "STORED",
        "PROVED",
        "VALUES OPENED",
        "RECOVERY",
        "PROBLEM",
    ];
    let rows = views.into_iter().map(row);
    let rows = rows.chain(deployment.into_iter().map(of_deployment));
    output::table(head, rows.collect())
}

async fn show(key: &KeyRef, app: &App) -> anyhow::Result<Exit> {
    let shown = key_backups(&app.services, key, &app.principal).await?;
    if app.output == Output::Json {
        output::object("rekey.key-backups/v1", serde_json::to_value(&shown)?)?;
        return Ok(Exit::Done);
    }
    table(shown.backups, Vec::new())?;
    output::line("")?;
    let bundle = |one: BundleView| {
        let (stored, confirmed) = (time(one.stored_at), time(one.confirmed_at));
        [one.destination.to_string(), one.bundle, stored, confirmed]
    };
    let head = ["DESTINATION", "BUNDLE", "STORED", "CONFIRMED"];
    output::table(head, shown.bundles.into_iter().map(bundle).collect())?;
    output::line("")?;
    let drill = |one: DrillView| {
        let found = one.problem.map_or("the key came back", |one| one.says());
        [
            one.destination.to_string(),
            time(one.began_at),
            time(one.last_at),
            one.times.to_string(),
            found.to_owned(),
        ]
    };
    let head_of_drills = ["DRILLS AT", "FIRST", "LAST", "TIMES", "FOUND"];
    output::table(
        head_of_drills,
        shown.drills.into_iter().map(drill).collect(),
    )?;
    Ok(Exit::Done)
}
