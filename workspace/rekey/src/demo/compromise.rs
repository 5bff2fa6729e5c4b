//! The demo's key leaks: it is reported, and the time is taken until nothing is encrypted under it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rekey_domain::{Found, KeyId, KeyRef};
use rekey_operations::{CensusRow, Report, report_compromise};
use serde::Serialize;
use uuid::Uuid;

use crate::{app::App, demo::narrator::Narrator};

const LOOK: Duration = Duration::from_millis(1);
/// Longer than any lease of the demo.
const PATIENCE: Duration = Duration::from_secs(30);

/// A key that was reported.
pub struct Stopped {
    key: KeyId,
    incident: Uuid,
    refused_after: Duration,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// From the report's return until this process encrypted under another key.
    pub refused_after_ms: u64,
    /// Reads of the application that failed, from the start to the end.
    pub failed_reads: u64,
    /// Values left under it.
    pub rows_under_compromised_key: u64,
    /// The incident.
    pub incident: Uuid,
    /// Messages that the demo's own receiver took.
    pub notifications: usize,
    /// What each of them was.
    #[serde(skip)]
    pub told: Vec<String>,
}

/// Reports `phi/1`, as an operator would.
pub async fn report(app: &App, say: &Narrator) -> anyhow::Result<Stopped> {
    let phi = "phi".parse().context("a valid name")?;
    let key = app.services.client.encryption_key(&phi, 0).await?.id();
    let report = Report {
        key: KeyRef::Id(key),
        reason: "it stood in a paste on the net (the demo says so)".to_owned(),
        since: None,
    };
    let reported = report_compromise(&app.services, &report, &app.principal).await?;
    let since = Instant::now();
    while app.services.client.encryption_key(&phi, 0).await?.id() == key {
        if since.elapsed() > PATIENCE {
            bail!(
                "{} still encrypts after {} s",
                reported.key,
                PATIENCE.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    let refused_after = since.elapsed();
    say.line(&format!(
        "{} was reported compromised: stopped, replaced, refused everywhere after {} ms; every row is moved now",
        reported.key,
        refused_after.as_millis()
    ));
    Ok(Stopped {
        key,
        incident: reported.incident,
        refused_after,
    })
}

impl Stopped {
    /// What a census and the application say at the end.
    pub fn outcome(self, after: &[CensusRow], failed_reads: u64, told: Vec<String>) -> Outcome {
        let under = after.iter().filter(|row| row.found == Found::Key(self.key));
        Outcome {
            refused_after_ms: u64::try_from(self.refused_after.as_millis()).unwrap_or(u64::MAX),
            failed_reads,
            rows_under_compromised_key: under.map(|row| row.rows).sum(),
            incident: self.incident,
            notifications: told.len(),
            told,
        }
    }
}
