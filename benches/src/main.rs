//! `rekey-bench`: re-encrypts a table through RabbitMQ with full job state, beside a bare UPDATE and pgcrypto, in one run.
//! `rekey-bench compromise`: what a report of a compromised key does, and how soon.
//! `rekey-bench backups`: how long keys are backed up, drilled, and waited for.

mod application;
mod backups;
mod baseline;
mod compromise;
mod deployment;
mod processor;
mod rows;

use std::{collections::BTreeMap, io::Write, num::NonZeroU32, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use sqlx::PgPool;

use crate::{
    deployment::{Deployment, Setup},
    rows::KeyType,
};

/// Measures how fast rows are re-encrypted. Makes databases of its own and drops them.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Rows, each with one value of 300 bytes.
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// The table's primary key.
    #[arg(long, value_enum, default_value_t = KeyType::Bigint)]
    key: KeyType,
    /// Batches in flight, one rotation for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    in_flight: Vec<u16>,
    /// The most rows a second, as `[source.limits]` says it.
    #[arg(long)]
    pace: Option<NonZeroU32>,
    /// The server, as a superuser; the database is made there.
    #[arg(long, env = "REKEY_TEST_POSTGRES_URL", hide_env_values = true)]
    postgres_url: String,
    /// The broker.
    #[arg(long, env = "REKEY_TEST_AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    /// Where the programs are.
    #[arg(long, global = true, default_value = "target/release")]
    programs: PathBuf,
    /// The broker's process, to count its processor time too.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// Prints one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

/// What is measured instead.
#[derive(Debug, clap::Subcommand)]
enum Instead {
    /// How soon a compromised key is refused, what a process does that is cut off, and whether reads go on.
    Compromise(compromise::Args),
    /// How long backups take: of first keys, of a fleet that is drilled, of a standby that waits.
    Backups(backups::Args),
    /// An application, as `compromise` starts it.
    #[command(hide = true)]
    Application(compromise::Application),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rekey_runtime::hardening::install_tls_provider();
    let args = Args::parse();
    match &args.instead {
        Some(Instead::Compromise(reports)) => return compromise::run(&args, reports).await,
        Some(Instead::Backups(backups)) => return backups::run(&args, backups).await,
        Some(Instead::Application(application)) => return application.run().await,
        None => {}
    }
    let deployment = Deployment::create(args.setup(Some(&args.amqp_url), "")).await?;
    let measured = measure(&args, &deployment).await;
    deployment.remove().await?;
    measured
}

impl Args {
    fn setup<'a>(&'a self, amqp: Option<&'a str>, keyrings: &'a str) -> Setup<'a> {
        Setup {
            server: &self.postgres_url,
            amqp,
            programs: &self.programs,
            pace: self.pace,
            keyrings,
        }
    }
}

async fn measure(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let pool = deployment.source();
    say(
        args,
        &format!("{} rows by {:?} key, 300 bytes each", args.rows, args.key),
    )?;
    let bare = baseline::bare(pool, args.rows, args.key).await?;
    say(
        args,
        &format!("(a) bare UPDATE       {:>8.0} rows/s", rate(args, bare)),
    )?;
    let pgcrypto = baseline::pgcrypto(pool, args.rows, args.key).await?;
    say(
        args,
        &format!("(b) pgcrypto in SQL   {:>8.0} rows/s", rate(args, pgcrypto)),
    )?;
    deployment.protect(args.key).await?;
    rows::fill(pool, deployment.services(), args.rows, args.key).await?;
    settle(pool).await?;
    let quiet = application::latency(pool, application::QUIET).await?;
    say(
        args,
        &format!(
            "    application's own updates, quiet: p99 {:.1} ms",
            quiet.p99
        ),
    )?;
    let mut runs = Vec::new();
    for in_flight in &args.in_flight {
        let run = deployment
            .rotate(*in_flight, args.broker_pid)
            .await
            .context("a rotation")?;
        let micros =
            |(name, seconds): (&String, &f64)| (name.clone(), seconds * 1e6 / args.rows as f64);
        let processor: BTreeMap<String, f64> = run.processor.iter().map(micros).collect();
        let rate = rate(args, run.seconds);
        let (ratio, of_pgcrypto) = (bare / run.seconds, pgcrypto / run.seconds);
        say(
            args,
            &format!(
                "(c) Rekey, {in_flight} in flight {rate:>7.0} rows/s  {ratio:.2} of (a)  {of_pgcrypto:.2} of (b)  \
                 application p99 {:.1} ms ({:.2} of quiet)  processor {:.1} µs a row: {}  peak memory {}",
                run.application.p99,
                run.application.p99 / quiet.p99,
                processor.values().sum::<f64>(),
                processor
                    .iter()
                    .map(|(name, used)| format!("{name} {used:.1}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                run.memory
                    .iter()
                    .map(|(name, mib)| format!("{name} {mib} MiB"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        )?;
        runs.push(serde_json::json!({
            "in_flight": in_flight,
            "rows_per_second": rate.round(),
            "of_bare": ratio,
            "of_pgcrypto": of_pgcrypto,
            "application_p99_ms": run.application.p99,
            "application_updates": run.application.updates,
            "processor_us_a_row": processor,
            "peak_memory_mib": run.memory.into_iter().collect::<BTreeMap<_, _>>(),
        }));
        settle(pool).await?;
    }
    if args.json {
        let all = serde_json::json!({
            "rows": args.rows,
            "key": format!("{:?}", args.key),
            "pace": args.pace,
            "bare_rows_per_second": rate(args, bare).round(),
            "pgcrypto_rows_per_second": rate(args, pgcrypto).round(),
            "quiet_p99_ms": quiet.p99,
            "rekey": runs,
        });
        writeln!(std::io::stdout(), "{all}")?;
    }
    Ok(())
}

fn rate(args: &Args, seconds: f64) -> f64 {
    args.rows as f64 / seconds
}

fn say(args: &Args, text: &str) -> anyhow::Result<()> {
    if !args.json {
        writeln!(std::io::stdout(), "{text}")?;
    }
    Ok(())
}

/// Each measurement begins on a table without dead rows, with nothing left to be written.
async fn settle(pool: &PgPool) -> anyhow::Result<()> {
    for sql in ["VACUUM ANALYZE bench", "CHECKPOINT"] {
        sqlx::query(sql).execute(pool).await?;
    }
    Ok(())
}
