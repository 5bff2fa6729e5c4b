//! `rekey demo`: a whole rotation on synthetic patients, with an application writing all the while.

mod application;
mod patients;
mod progress;
mod report;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, bail};
use rekey_domain::{
    Bind, Found, KeyringPolicy, OnUpdate, Purpose, RotationReason, RotationState, Timing,
};
use rekey_operations::{
    Desired, DesiredColumn, DesiredKeyring, DesiredSource, DesiredTable, Places, RotationView,
    Services, apply, census, init, rotate, sqlite_url,
};

use rekey_runtime::config::Config;

use crate::{app::App, exit::Exit, output::Output, up::Engine};
use application::Application;
use report::Report;
use std::time::Duration;

/// Arguments of `rekey demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Synthetic patients to make.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub rows: u32,
}

/// Runs the demo; done only if no row is left under the old key and every row reads back.
pub async fn run(args: &Args, state_dir: Option<PathBuf>, output: Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let temporary = tempfile::Builder::new().prefix("rekey-demo-").tempdir()?;
    let kept = state_dir.is_some();
    let directory = state_dir.unwrap_or_else(|| temporary.path().join("state"));
    let places = Places::resolve(Some(directory), Config::default())?;
    let source_file = places.file("source.db");
    if source_file.exists() {
        bail!(
            "{} is there already; a demo starts on an empty directory",
            source_file.display()
        );
    }
    let say = report::Narrator::new(output);
    say.line("Rekey demo: one key rotation, online. Distribution and grace are shortened to seconds (defaults: 60s, 7d).");
    places.create()?;
    let truth = patients::create(&source_file).await?;
    let app = App::create(places, desired(&sqlite_url(&source_file, false)), output).await?;
    init(&app.services, &app.desired, &app.principal).await?;
    apply(&app.services, &app.desired, &app.principal).await?;
    say.line(&format!(
        "Encrypting {} synthetic patients under phi/1 …",
        args.rows
    ));
    let application = Application::start(&app, truth, args.rows).await?;

    let before = census(&app.services).await?;
    let engine = Engine::start(&app).await?;
    let writing = application.write_until_stopped();
    let keyring = "phi".parse().context("a valid name")?;
    rotate(
        &app.services,
        &keyring,
        RotationReason::Request,
        &app.principal,
    )
    .await?;
    let watched = progress::watch(&app.services, args.rows, &say).await;
    let application = writing.stop().await?;
    engine.stop().await;
    let (rotation, moving) = watched?;

    let after = census(&app.services).await?;
    say.line("Decrypting every row and comparing it with what the application last wrote …");
    let verdict = application.verify_all().await?;
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        rows: verdict.rows,
        rows_per_second: f64::from(args.rows) / moving.as_secs_f64().max(0.001),
        conflicts: rotation.conflicts,
        quarantined: rotation.quarantined,
        rows_under_old_key: under_old_key(&app.services, &after, &rotation).await?,
        all_rows_verified: verdict.wrong == 0 && verdict.reads_failed == 0,
        seconds,
    };
    report::print(
        &app.services,
        &report,
        &before,
        &after,
        &rotation,
        &verdict,
        &say,
        kept.then_some(&app.places),
    )
    .await?;
    let well = rotation.state == RotationState::Completed
        && report.rows_under_old_key == 0
        && report.all_rows_verified;
    Ok(if well { Exit::Done } else { Exit::Failed })
}

/// Rows under any key of the keyring but its new primary.
async fn under_old_key(
    services: &Services,
    after: &[rekey_operations::CensusRow],
    rotation: &RotationView,
) -> anyhow::Result<u64> {
    let keys = rekey_operations::key_views(services).await?;
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

fn desired(source_url: &str) -> Desired {
    let policy = KeyringPolicy {
        timing: Timing {
            keyset_max_age: Duration::from_secs(2),
            grace_period: Duration::from_secs(4),
            sweep_every: Duration::from_secs(2),
        },
        encrypt_lease: Duration::from_secs(3),
        ..KeyringPolicy::default()
    };
    let phi: rekey_domain::KeyringName = "phi".parse().expect("a valid name");
    let column = |name: &str| DesiredColumn {
        name: name.to_owned(),
        keyring: phi.clone(),
        bind: Bind::Row,
        column_id: None,
    };
    let table = DesiredTable {
        name: "patients".to_owned(),
        relation: "patients".to_owned(),
        on_update: OnUpdate::default(),
        columns: vec![column("ssn"), column("notes")],
    };
    let source = DesiredSource {
        name: "clinic".to_owned(),
        url: source_url.to_owned().into(),
        tables: vec![table],
    };
    let keyring = DesiredKeyring {
        name: phi.clone(),
        purpose: Purpose::Phi,
        policy,
    };
    Desired {
        keyrings: vec![Desired::audit_keyring(), keyring],
        sources: vec![source],
    }
}
