//! `rekey demo`: a whole rotation on synthetic patients, with an application writing all the while.

mod application;
mod args;
mod backups;
mod clinic;
mod compromise;
mod databases;
mod desired;
mod disaster;
mod narrator;
mod patients;
mod progress;
mod receiver;
mod report;
mod schema;
mod site;

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use rekey_domain::{Found, RotationReason, RotationState};
use rekey_operations::{RotationView, apply, backup_views, census, init, rotate};

use crate::{app::App, commands::recovery, exit::Exit, output::Output, up::Engine};
use application::Application;
use backups::{Backups, SHARES};
use narrator::Narrator;
use receiver::Receiver;
use report::Report;
use site::Site;

pub use args::Args;

/// Runs the demo; done only if no row is left under the old key and every row reads back.
pub async fn run(args: &Args, state_dir: Option<PathBuf>, output: Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let site = Site::choose(args, state_dir).await?;
    let say = Narrator::new(output);
    say.line("Rekey demo: one key rotation, online. Distribution and grace are shortened to seconds (defaults: 60s, 7d).");
    if let Some(text) = site.describe() {
        say.line(&text);
    }
    site.make().await?;
    let told = site.unless_stopped(tell(args, &site, &say, started)).await;
    for line in site.leave().await {
        say.remark(&line);
    }
    if told.is_ok() {
        say.next(&site.next());
    }
    told
}

/// The whole story, on a site that is made.
async fn tell(args: &Args, site: &Site, say: &Narrator, started: Instant) -> anyhow::Result<Exit> {
    let clinic = site.open_clinic().await?;
    let (url, relation) = site.clinic();
    let mut desired = desired::desired(&url, relation);
    let mut receiver = None;
    if args.compromise {
        let (listening, channel) = Receiver::start(&site.places).await?;
        desired.channels.push(channel);
        receiver = Some(listening);
    }
    let (app, _) = App::create(site.places.clone(), desired.clone(), say.output()).await?;
    let shares = site.places.file("recovery-shares");
    init(&app.services, &app.desired, &app.principal).await?;
    recovery::make(&app, SHARES, false, &shares).await?;
    apply(&app.services, &app.desired, &app.principal).await?;
    say.line(&format!(
        "Encrypting {} synthetic patients under phi/1 …",
        args.rows
    ));
    let application = Application::start(&app, clinic, args.rows).await?;

    let before = census(&app.services, &app.principal).await?;
    let engine = Engine::start(&app).await?;
    let writing = application.write_until_stopped();
    let stopped = match args.compromise {
        true => Some(compromise::report(&app, say).await?),
        false => {
            let keyring = "phi".parse().context("a valid name")?;
            let reason = RotationReason::Request;
            rotate(&app.services, &keyring, reason, &app.principal).await?;
            None
        }
    };
    let watched = progress::watch(&app, args.rows, say).await;
    let ended = writing.stop().await?;
    let told = match receiver {
        Some(receiver) => receiver.told().await,
        None => Vec::new(),
    };
    if args.disaster {
        disaster::prepare(&app).await?;
    }
    engine.stop().await;
    let (rotation, moving) = watched?;

    let after = census(&app.services, &app.principal).await?;
    say.line("Decrypting every row and comparing it with what the application last wrote …");
    let verdict = ended.verify_all().await?;
    let seconds = started.elapsed().as_secs_f64();
    let backups = backup_views(&app.services, &app.principal).await?;
    let compromise = stopped.map(|stopped| stopped.outcome(&after, verdict.reads_failed, told));
    let mut report = Report {
        rows: verdict.rows,
        rows_per_second: f64::from(args.rows) / moving.as_secs_f64().max(0.001),
        conflicts: rotation.conflicts,
        quarantined: rotation.quarantined,
        rows_under_old_key: under_old_key(&app, &after, &rotation).await?,
        all_rows_verified: verdict.wrong == 0 && verdict.reads_failed == 0,
        seconds,
        compromise,
        backups: Backups::of(&backups, &app, &shares),
        disaster: None,
    };
    let story = report::told(&app, &report, (&before, &after), &rotation, &verdict, say).await?;
    if args.disaster {
        report.disaster = Some(disaster::strike((app, desired), site, ended, &shares, say).await?);
        report.seconds = started.elapsed().as_secs_f64();
    }
    report::print(&report, &story, say)?;
    let lost = report
        .disaster
        .as_ref()
        .map_or(0, |outcome| report.rows - outcome.rows_verified);
    let well = rotation.state == RotationState::Completed
        && report.rows_under_old_key == 0
        && report.all_rows_verified
        && lost == 0;
    Ok(if well { Exit::Done } else { Exit::Failed })
}

/// Rows under any key of the keyring but its new primary.
async fn under_old_key(
    app: &App,
    after: &[rekey_operations::CensusRow],
    rotation: &RotationView,
) -> anyhow::Result<u64> {
    let keys = rekey_operations::key_views(&app.services, &app.principal).await?;
    let target = keys
        .iter()
        .find(|key| Some(&key.key) == rotation.target.as_ref())
        .map(|key| Found::Key(key.key_id));
    let of_demo = after.iter().filter(|row| row.column.source == "clinic");
    Ok(of_demo
        .filter(|row| Some(row.found) != target)
        .map(|row| row.rows)
        .max()
        .unwrap_or(0))
}
