//! From the commit of a report to the refusal of the key in another process, which hears of it as any application does.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    Reporter,
    application::{Refusal, Task},
    beside::Beside,
};

/// A lease is renewed when it is a second old: reports are spread over that.
const SPREAD_MS: u64 = 1_000;

/// The keyring of a report.
pub fn keyring(number: u32) -> String {
    format!("told-{number}")
}

/// How long it took.
#[derive(Debug, Serialize)]
pub struct Refusals {
    reports: usize,
    /// From the commit to the first answer that was not the key, asked for every millisecond.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// The longest from the commit to the last answer that was the key.
    last_given_max_ms: f64,
    /// What was answered first where that was an error, and not another key.
    errors: Vec<String>,
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reports, commit to refusal in another process: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms \
             (key last given {:.1} ms after at most; {} refused by an error first)",
            self.reports,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.last_given_max_ms,
            self.errors.len()
        )?;
        match self.errors.first() {
            Some(first) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}

/// Reports one keyring after the other, while an application encrypts with it.
pub async fn measure(reporter: &Reporter<'_>, reports: u32) -> anyhow::Result<Refusals> {
    let mut application = Beside::start(reporter, Task::Watch, &[]).await?;
    let (mut taken, mut last_given, mut errors) = (Vec::new(), f64::MIN, Vec::new());
    for number in 0..reports {
        let keyring = keyring(number);
        application.tell(&keyring).await?;
        application.hear::<()>().await?;
        let phase = Duration::from_millis(rand::random_range(0..SPREAD_MS));
        tokio::time::sleep(phase).await;
        let (_, committed) = reporter.report(&format!("{keyring}/1")).await?;
        let refusal: Refusal = application.hear().await?;
        taken.push(refusal.refused.ms_since(committed));
        last_given = last_given.max(refusal.last_given.ms_since(committed));
        errors.extend(refusal.error);
    }
    taken.sort_by(f64::total_cmp);
    let share = |hundredths: usize| {
        let at = (taken.len() * hundredths).div_ceil(100).saturating_sub(1);
        taken.get(at).copied().unwrap_or_default()
    };
    Ok(Refusals {
        reports: taken.len(),
        p50_ms: share(50),
        p99_ms: share(99),
        max_ms: share(100),
        last_given_max_ms: last_given,
        errors,
    })
}
