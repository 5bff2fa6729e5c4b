//! The demo's store and master key are deleted, and all of it comes back from bundles with shares.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rekey_operations::{
    Desired, HowToRestore, apply, backup_views, checkpoints_are_current, request_backups,
    restore_store,
};
use serde::Serialize;

use super::{application::Application, backups::SHARES, narrator::Narrator, site::Site};
use crate::{app::App, commands::recovery::read_shares};

const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Keys that came back.
    pub keys_restored: usize,
    /// Rows that decrypt to what was last written, under keys that came back.
    pub rows_verified: u64,
    /// From the loss to the last row.
    pub seconds: f64,
}

/// Waits until what is to come back is kept: each key's bundle, and a checkpoint that knows each key's state.
pub async fn prepare(app: &App) -> anyhow::Result<()> {
    request_backups(&app.services, None, &app.principal).await?;
    let since = Instant::now();
    loop {
        let views = backup_views(&app.services, &app.principal).await?;
        let is_proved = views
            .iter()
            .all(|view| view.problem.is_none() && view.is_fresh);
        if is_proved && checkpoints_are_current(&app.services, &app.principal).await? {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            bail!(
                "the keys were not backed up within {} s",
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Loses both, brings them back, and reads every row.
pub async fn strike(
    (app, desired): (App, Desired),
    site: &Site,
    application: Application,
    shares: &Path,
    say: &Narrator,
) -> anyhow::Result<Outcome> {
    let since = Instant::now();
    drop(app);
    lose(site)?;
    say.line("Store and master key are deleted. Restoring from bundles with three shares …");
    let again = App::create_to_restore(site.places.clone(), desired, say.output(), true).await?;
    let files = fs::read_dir(shares)?.map(|file| Ok(file?.path()));
    let mut files = files.collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    files.truncate(usize::from(SHARES.0));
    let how = HowToRestore {
        shares: read_shares(&files)?,
        ..HowToRestore::default()
    };
    let (services, principal) = (&again.services, &again.principal);
    let restored = restore_store(services, &again.desired, &how, principal).await?;
    apply(services, &again.desired, principal).await?;
    let verdict = application.reopened(&again).verify_all().await?;
    Ok(Outcome {
        keys_restored: restored.keys.len(),
        rows_verified: verdict.rows.saturating_sub(verdict.wrong),
        seconds: since.elapsed().as_secs_f64(),
    })
}

fn lose(site: &Site) -> anyhow::Result<()> {
    for name in ["store.db", "store.db-wal", "store.db-shm", "master.key"] {
        let file = site.places.file(name);
        if file.exists() {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}
