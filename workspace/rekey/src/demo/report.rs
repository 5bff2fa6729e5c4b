//! What the demo prints: a story for people, one object for programs.

use std::io::Write;

use rekey_operations::{CensusRow, RotationView, certificates::certificate, key_views};
use serde::Serialize;

use crate::{
    app::App,
    commands::certificate::page,
    demo::{
        application::Verdict,
        backups::{Backups, SHARES},
        compromise::Outcome,
        disaster,
        narrator::Narrator,
    },
    output::Output,
};

/// The demo's result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Patients at the end.
    pub rows: u64,
    /// Rows moved a second while batches ran.
    pub rows_per_second: f64,
    /// Rows the application changed between our read and our write.
    pub conflicts: u64,
    /// Values in quarantine.
    pub quarantined: u64,
    /// Rows not under the new key.
    pub rows_under_old_key: u64,
    /// Every row decrypts to what the application last wrote.
    pub all_rows_verified: bool,
    /// From start to result.
    pub seconds: f64,
    /// What became of the key that was reported, where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compromise: Option<Outcome>,
    /// The keys' backups.
    pub backups: Backups,
    /// What came back after all was lost, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disaster: Option<disaster::Outcome>,
}

/// Prints everything: the story that was told of the rotation, and what came after.
pub fn print(report: &Report, told: &[String], say: &Narrator) -> anyhow::Result<()> {
    if matches!(say.output(), Output::Json) {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    for line in told {
        say.line(line);
    }
    if let Some(outcome) = &report.disaster {
        say.line(&format!(
            "Disaster     {} keys restored from bundles and shares, {} rows decrypt again, {:.1} s after store and master key were gone",
            outcome.keys_restored, outcome.rows_verified, outcome.seconds
        ));
    }
    Ok(())
}

/// What is told of the rotation.
pub async fn told(
    app: &App,
    report: &Report,
    (before, after): (&[CensusRow], &[CensusRow]),
    rotation: &RotationView,
    verdict: &Verdict,
    say: &Narrator,
) -> anyhow::Result<Vec<String>> {
    say.end();
    let mut lines = Vec::new();
    lines.push("\nCensus before".to_owned());
    lines.extend(census_lines(app, before).await?);
    lines.push("Census after".to_owned());
    lines.extend(census_lines(app, after).await?);
    lines.push(format!(
        "\nApplication  {} writes while the rotation ran, {} failed reads",
        verdict.writes, verdict.reads_failed
    ));
    lines.push(format!(
        "Conflicts    {} rows changed under our hands; none overwritten",
        report.conflicts
    ));
    if let Some(outcome) = &report.compromise {
        let Outcome {
            refused_after_ms,
            rows_under_compromised_key,
            incident,
            told,
            ..
        } = outcome;
        lines.push(format!(
            "Compromise   refused to encrypt after {refused_after_ms} ms, {rows_under_compromised_key} values left under the key; incident {incident}"
        ));
        for line in told {
            lines.push(format!("Told         {line}"));
        }
    }
    lines.push(format!("Quarantine   {} values", report.quarantined));
    lines.push(format!(
        "Throughput   {:.0} rows/s, two columns each",
        report.rows_per_second
    ));
    let rows = if verdict.wrong == 0 {
        "all decrypt to what was last written".to_owned()
    } else {
        format!("{} WRONG", verdict.wrong)
    };
    lines.push(format!("Verified     {} rows: {rows}", verdict.rows));
    let backups = &report.backups;
    lines.push(format!(
        "Backups      {} keys restored from their bundles in {}, {} not yet; any {} of the {} shares in {} make the RECOVERY key",
        backups.proved,
        backups.destination,
        backups.unproved,
        SHARES.0,
        SHARES.1,
        backups.shares.display(),
    ));
    if rotation.certificate.is_some() {
        let shown = certificate(&app.services, rotation.id, &app.principal).await?;
        lines.push(format!("\n{}", page(&shown.certificate, shown.signature)));
    }
    Ok(lines)
}

async fn census_lines(app: &App, counted: &[CensusRow]) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let keys = key_views(&app.services, &app.principal).await?;
    for row in counted.iter().filter(|row| row.column.source == "clinic") {
        let name = match row.found {
            rekey_domain::Found::NotCiphertext => "not ciphertext".to_owned(),
            rekey_domain::Found::Empty => "empty".to_owned(),
            rekey_domain::Found::Unreadable => "unreadable".to_owned(),
            rekey_domain::Found::Key(id) => keys
                .iter()
                .find(|key| key.key_id == id)
                .map_or_else(|| id.to_string(), |key| key.key.to_string()),
        };
        lines.push(format!(
            "  {:<24} {name:<8} {:>9}",
            row.column.to_string(),
            row.rows
        ));
    }
    Ok(lines)
}
