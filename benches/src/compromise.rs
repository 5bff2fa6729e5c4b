//! What a report of a compromised key does: when other processes refuse the key, what one does that is cut off, and whether
//! reads go on.

mod application;
mod beside;
mod clock;
mod cut_off;
mod proxy;
mod reads;
mod refusals;

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, bail};
use rekey_domain::Principal;
use rekey_operations::{Report, Reported, report_compromise};
use serde_json::json;

pub use self::application::Application;
use self::clock::Moment;
use crate::{deployment::Deployment, say};

const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(300);
const SLOTS: u16 = 4;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reports whose refusal is timed, each of a keyring of its own; so many over RabbitMQ, and so many without a broker.
    #[arg(long, default_value_t = 200)]
    reports: u32,
    /// Runs of an application that is cut off from store and broker before the report.
    #[arg(long, default_value_t = 1_000)]
    cut_off: u32,
    /// Applications that are cut off at once, as clients of one process.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// Rows that are read while an emergency moves them.
    #[arg(long, default_value_t = 20_000)]
    rows_read: i64,
}

impl Args {
    /// Times that an application's process is cut off.
    fn cuts(&self) -> u32 {
        self.cut_off.div_ceil(self.at_once)
    }

    /// The keyrings that are reported beside `phi`, as the configuration has them.
    fn keyrings(&self) -> String {
        let mut all = String::new();
        for number in 0..self.reports {
            keyring(&mut all, &refusals::keyring(number), "");
        }
        let lease = cut_off::LEASE.as_secs();
        for number in 0..self.cuts() {
            let policy = format!("encrypt_lease = \"{lease}s\"\n");
            keyring(&mut all, &cut_off::keyring(number), &policy);
        }
        all
    }
}

fn keyring(all: &mut String, name: &str, policy: &str) {
    let written = writeln!(
        all,
        "[[keyring]]\nname = \"{name}\"\npurpose = \"PHI\"\n{policy}"
    );
    written.expect("a text takes what is written");
}

/// Measures over RabbitMQ, then without a broker, each in a deployment of its own.
pub async fn run(args: &crate::Args, reports: &Args) -> anyhow::Result<()> {
    let with_broker = on(args, reports, Some(&args.amqp_url)).await;
    let with_broker = with_broker.context("over RabbitMQ")?;
    let without = on(args, reports, None).await.context("without a broker")?;
    if args.json {
        let all = json!({ "rabbitmq": with_broker, "without_broker": without });
        std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{all}\n"))?;
    }
    Ok(())
}

async fn on(
    args: &crate::Args,
    reports: &Args,
    amqp: Option<&str>,
) -> anyhow::Result<serde_json::Value> {
    let keyrings = reports.keyrings();
    let deployment = Deployment::create(args.setup(amqp, &keyrings)).await?;
    let reporter = Reporter {
        deployment: &deployment,
        args,
        amqp,
    };
    let measured = measure(&reporter, reports).await;
    deployment.remove().await?;
    measured
}

async fn measure(reporter: &Reporter<'_>, reports: &Args) -> anyhow::Result<serde_json::Value> {
    let over = reporter
        .amqp
        .map_or("without a broker", |_| "over RabbitMQ");
    let _workers = reporter.deployment.start(SLOTS)?;
    reporter.has_standbys().await?;
    let refusals = refusals::measure(reporter, reports.reports).await?;
    say(reporter.args, &format!("{over}: {refusals}"))?;
    let cut_off = cut_off::measure(reporter, reports.cuts(), reports.at_once).await?;
    say(reporter.args, &format!("{over}: {cut_off}"))?;
    let reads = reads::measure(reporter, reports.rows_read).await?;
    say(reporter.args, &format!("{over}: {reads}"))?;
    Ok(json!({ "refusals": refusals, "cut_off": cut_off, "reads": reads }))
}

/// Whoever reports keys, in this process.
struct Reporter<'a> {
    deployment: &'a Deployment,
    args: &'a crate::Args,
    amqp: Option<&'a str>,
}

impl Reporter<'_> {
    /// Reports a key; what came of it, and when the reporter knew it to be committed.
    async fn report(&self, key: &str) -> anyhow::Result<(Reported, Moment)> {
        let report = Report {
            key: key.parse().context("the name of a key")?,
            reason: "the benchmark asks how long it takes".to_owned(),
            since: None,
        };
        let operator = Principal::os("bench", "bench");
        let reported = report_compromise(self.deployment.services(), &report, &operator).await?;
        let committed = Moment::now();
        if reported.replaced_by.is_none() {
            bail!(
                "{key} had no standby that could be used: {:?}",
                reported.notes
            );
        }
        Ok((reported, committed))
    }

    /// Waits until every keyring has a standby that an emergency uses, which no failover would lose.
    async fn has_standbys(&self) -> anyhow::Result<()> {
        let lacking = "SELECT count(*) FROM keyring r WHERE purpose = 'PHI' AND NOT EXISTS (SELECT 1 FROM key k
            WHERE k.keyring_id = r.id AND k.state = 'PENDING' AND k.created_at < now() - interval '10 s')";
        let store = self.deployment.store().await?;
        let waiting = async {
            while sqlx::query_scalar::<_, i64>(lacking)
                .fetch_one(&store)
                .await?
                > 0
            {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .context("waited in vain for standbys")?
    }
}
