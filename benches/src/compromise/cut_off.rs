//! Applications that reach neither store nor broker from before a report on: none encrypts past the end of its lease.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    Reporter,
    application::{Lapse, Task},
    beside::Beside,
    proxy::Proxy,
};

/// Of the keyrings whose applications are cut off.
pub const LEASE: Duration = Duration::from_secs(2);

/// The keyring of a cut.
pub fn keyring(number: u32) -> String {
    format!("cut-{number}")
}

/// What they did.
#[derive(Debug, Default, Serialize)]
pub struct CutOff {
    runs: usize,
    /// Runs that were given the key after they had been cut off, by the lease they held.
    went_on: usize,
    /// Runs that were given the key when they asked for it after their lease had ended.
    violations: usize,
    /// Runs that asked before the end and had the answer after it: they were not running in between.
    over_the_end: usize,
    /// From the last answer that was the key to the end of the lease.
    nearest_ms: Option<f64>,
    /// From the commit of the report to the last answer that was the key.
    latest_ms: Option<f64>,
}

impl CutOff {
    fn count(&mut self, lapse: &Lapse, after_commit_ms: f64) {
        let nearest = lapse.ends.ms_since(lapse.last_given);
        self.runs += 1;
        self.went_on += usize::from(after_commit_ms > 0.0);
        self.violations += usize::from(lapse.given_late > 0);
        self.over_the_end += usize::from(lapse.given_late == 0 && nearest <= 0.0);
        self.nearest_ms = Some(self.nearest_ms.map_or(nearest, |least| least.min(nearest)));
        let latest = self
            .latest_ms
            .map_or(after_commit_ms, |most| most.max(after_commit_ms));
        self.latest_ms = Some(latest);
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs cut off, leases of {} ms: {} violations, nearest to the end {:.3} ms, latest {:.1} ms after the commit \
             ({} went on after it; {} asked before the end and were answered after)",
            self.runs,
            LEASE.as_millis(),
            self.violations,
            self.nearest_ms.unwrap_or(f64::NAN),
            self.latest_ms.unwrap_or(f64::NAN),
            self.went_on,
            self.over_the_end,
        )
    }
}

/// Cuts a process off so many times, with so many applications in it.
pub async fn measure(reporter: &Reporter<'_>, cuts: u32, at_once: u32) -> anyhow::Result<CutOff> {
    let mut all = CutOff::default();
    for number in 0..cuts {
        let (proxies, urls) = before_everything(reporter).await?;
        let mut application = Beside::start(reporter, Task::Lapse, &urls).await?;
        let keyring = keyring(number);
        application.tell(&format!("{keyring} {at_once}")).await?;
        application.hear::<()>().await?;
        proxies.iter().for_each(Proxy::cut);
        let (_, committed) = reporter.report(&format!("{keyring}/1")).await?;
        let lapses: Vec<Lapse> = application.hear().await?;
        for lapse in lapses {
            all.count(&lapse, lapse.last_given.ms_since(committed));
        }
    }
    Ok(all)
}

/// Proxies to store and broker, and the settings that lead an application through them.
async fn before_everything(
    reporter: &Reporter<'_>,
) -> anyhow::Result<(Vec<Proxy>, Vec<(&'static str, String)>)> {
    let store = reporter.deployment.services().store.url().to_owned();
    let broker = reporter.amqp.map(str::to_owned);
    let mut all = (Vec::new(), Vec::new());
    let urls = [
        ("REKEY__STORE__URL", Some(store)),
        ("REKEY__BROKER__URL", broker),
    ];
    for (name, url) in urls {
        if let Some(url) = url {
            let (proxy, through) = Proxy::before(&url).await?;
            all.0.push(proxy);
            all.1.push((name, through));
        }
    }
    Ok(all)
}
