//! How long backups take: first keys that are proved, a fleet that is drilled, a standby that waits for its proof.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::say;

const LOOK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(600);

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keyrings beside the three that each deployment has; each has a primary and a standby.
    #[arg(long, default_value_t = 97)]
    keyrings: u32,
    /// Rotations, each of which makes a standby whose first proof is timed.
    #[arg(long, default_value_t = 40)]
    standbys: u32,
}

/// A deployment over SQLite, with two directories as destinations.
struct Site {
    dir: TempDir,
    program: PathBuf,
}

/// Measures and prints.
pub async fn run(args: &crate::Args, backups: &Args) -> anyhow::Result<()> {
    let site = Site::new(&args.programs, backups.keyrings)?;
    let asked = Instant::now();
    site.rekey(&["init"])?;
    let init = asked.elapsed();
    let engine = site.up()?;
    let running = Instant::now();
    let proved = site.all_proved().await?;
    let first = running.elapsed();
    let verifying = Instant::now();
    site.rekey(&["backups", "verify"])?;
    let drilled = verifying.elapsed();
    let mut waits = Vec::new();
    for number in 0..backups.standbys {
        let keyring = keyring(number % backups.keyrings.max(1));
        site.rekey(&["rotate", &keyring, "--wait", "--timeout", "120s"])?;
    }
    site.all_proved().await?;
    for number in 0..backups.standbys.min(backups.keyrings) {
        waits.extend(site.waited(&keyring(number))?);
    }
    end(engine)?;
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    ensure!(!waits.is_empty(), "no standby was made");
    let (p50, p95, most) = (at(0.5), at(0.95), at(1.0));
    say(
        args,
        &format!(
            "{proved} backups of keys at two directories: init {:.1} s, all proved {:.1} s later, drilled anew in {:.1} s; \
             {} standbys waited for their proof p50 {p50:.2} s, p95 {p95:.2} s, at most {most:.2} s",
            init.as_secs_f64(),
            first.as_secs_f64(),
            drilled.as_secs_f64(),
            waits.len(),
        ),
    )?;
    if args.json {
        let measured = json!({
            "backups": proved,
            "init_seconds": init.as_secs_f64(),
            "drilled_seconds": drilled.as_secs_f64(),
            "standby_seconds": { "p50": p50, "p95": p95, "max": most },
        });
        writeln!(std::io::stdout(), "{measured}")?;
    }
    Ok(())
}

fn keyring(number: u32) -> String {
    format!("phi-{number}")
}

impl Site {
    fn new(programs: &Path, keyrings: u32) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut config = String::new();
        for name in ["one", "other"] {
            let place = dir.path().join(name);
            writeln!(
                config,
                "[[destination]]\nname = \"{name}\"\nurl = \"file://{}\"",
                place.display()
            )?;
        }
        for number in 0..keyrings {
            writeln!(
                config,
                "[[keyring]]\nname = \"{}\"\npurpose = \"PHI\"\nkeyset_max_age = \"1s\"\n\
                 grace_period = \"1s\"\nsweep_every = \"1s\"\nencrypt_lease = \"1s\"",
                keyring(number)
            )?;
        }
        std::fs::write(dir.path().join("rekey.toml"), config)?;
        let program = std::path::absolute(programs.join("rekey"))?;
        Ok(Self { dir, program })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--state-dir", "state", "--output", "json"])
            .args(arguments)
            .current_dir(self.dir.path());
        command
    }

    fn rekey(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let done = self.command(arguments).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{arguments:?}: {said}");
        Ok(serde_json::from_slice(&done.stdout).unwrap_or_default())
    }

    fn up(&self) -> anyhow::Result<Child> {
        let mut up = self.command(&["up"]);
        up.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(up.spawn()?)
    }

    /// How many backups there are, once all are proved.
    async fn all_proved(&self) -> anyhow::Result<usize> {
        let started = Instant::now();
        loop {
            // Not proved yet is exit code 3.
            let listed = self.command(&["backups", "list"]).output()?;
            let listed: Value = serde_json::from_slice(&listed.stdout)?;
            let all = listed["backups"].as_array().context("backups")?;
            let is_proved = |one: &Value| one["proved_at"].is_string() && one["problem"].is_null();
            if !all.is_empty() && all.iter().all(is_proved) {
                return Ok(all.len());
            }
            if started.elapsed() > PATIENCE {
                bail!("not every key was proved within {PATIENCE:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How long each key of a keyring that was made by a rotation waited for its first proof.
    fn waited(&self, keyring: &str) -> anyhow::Result<Vec<f64>> {
        let keys = self.rekey(&["keys", "list"])?;
        let keys = keys["keys"].as_array().context("keys")?;
        let mut waits = Vec::new();
        for key in keys {
            let name = key["key"].as_str().context("a key's name")?;
            let Some(version) = name.strip_prefix(&format!("{keyring}/")) else {
                continue;
            };
            // The first two are init's.
            if version.parse::<u32>()? > 2 {
                waits.push(self.first_proof(name, time(&key["created_at"])?)?);
            }
        }
        Ok(waits)
    }

    fn first_proof(&self, key: &str, made_at: DateTime<Utc>) -> anyhow::Result<f64> {
        let shown = self.rekey(&["backups", "show", key])?;
        let drills = shown["drills"].as_array().context("drills")?;
        let mut first = None;
        for drill in drills.iter().filter(|drill| drill["problem"].is_null()) {
            let at = time(&drill["began_at"])?;
            first = Some(first.map_or(at, |first: DateTime<Utc>| first.min(at)));
        }
        let first = first.context("a proof")?;
        Ok((first - made_at).num_milliseconds() as f64 / 1e3)
    }
}

fn time(text: &Value) -> anyhow::Result<DateTime<Utc>> {
    Ok(text.as_str().context("a time")?.parse()?)
}

fn end(mut engine: Child) -> anyhow::Result<()> {
    let pid = i32::try_from(engine.id())?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    engine.wait()?;
    Ok(())
}
