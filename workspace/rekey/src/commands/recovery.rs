//! `rekey recovery`: the RECOVERY key leaves as shares, each in a file of its own, and is in no file.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rekey_backups::{Share, combine};
use rekey_operations::{
    RecoveryKeyView, SplitRecoveryKey, keep_recovery_key, recovery_key_views, split_recovery_key,
};
use serde_json::json;

use crate::{
    app::App,
    commands::input,
    exit::{Exit, UsageError},
    output::{self, Output, time},
};

/// Far more than any share has.
const SHARE_LIMIT: u64 = 64 * 1024;

/// What can be done about the RECOVERY key.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The RECOVERY keys: how many shares each has, and whether bundles are sealed to it.
    List,
    /// Make a RECOVERY key and split it into shares, each in a file of its own.
    Split(SplitArgs),
    /// Look whether a file is a share, whole, and of which set; with several, whether they make the key.
    CheckShare {
        /// The files.
        #[arg(required = true)]
        shares: Vec<PathBuf>,
    },
}

/// `rekey recovery split`.
#[derive(Debug, clap::Args)]
pub struct SplitArgs {
    /// How many shares.
    #[arg(long, default_value_t = 5)]
    shares: u8,
    /// How many of them make the key again.
    #[arg(long, default_value_t = 3)]
    threshold: u8,
    /// The directory for the shares, which is made. Give each file to its holder, then delete it there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Seal to the new key from now on, though there is one.
    #[arg(long)]
    replace: bool,
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(app).await,
        Command::Split(args) => split(args, app).await,
        Command::CheckShare { shares } => check(shares, app).await,
    }
}

async fn list(app: &App) -> anyhow::Result<Exit> {
    let keys = recovery_key_views(&app.services, &app.principal).await?;
    if app.output == Output::Json {
        output::object("rekey.recovery-keys/v1", json!({ "recovery_keys": keys }))?;
        return Ok(Exit::Done);
    }
    if keys.is_empty() {
        output::line("there is no RECOVERY key: rekey recovery split --to DIR")?;
        return Ok(Exit::Done);
    }
    let row = |key: RecoveryKeyView| {
        let sealed_to = if key.trusted_here { "yes" } else { "no" };
        [
            key.fingerprint,
            format!("{} of {}", key.threshold, key.shares),
            time(key.made_at),
            key.made_by.to_string(),
            sealed_to.to_owned(),
        ]
    };
    let head = ["FINGERPRINT", "SHARES", "MADE", "BY", "SEALED TO FROM HERE"];
    output::table(head, keys.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

async fn split(args: &SplitArgs, app: &App) -> anyhow::Result<Exit> {
    let (threshold, shares) = (args.threshold, args.shares);
    let made = make(app, (threshold, shares), args.replace, &args.to).await?;
    let Made { fingerprint, files } = made;
    if app.output == Output::Json {
        let split = json!({ "fingerprint": fingerprint, "threshold": threshold, "shares": files });
        output::object("rekey.recovery-split/v1", split)?;
        return Ok(Exit::Done);
    }
    output::line(&format!("RECOVERY key {fingerprint}"))?;
    for file in &files {
        output::line(&format!("  {}", file.display()))?;
    }
    output::done(&format!(
        "any {threshold} of these {shares} shares make it again: give each to its holder, have it checked with rekey recovery check-share, and delete it here"
    ));
    output::note(&format!(
        "a process seals to it once its own rekey.toml says recovery_fingerprint = [\"{fingerprint}\"]; processes with this state directory do so now"
    ));
    Ok(Exit::Done)
}

/// A RECOVERY key that was made, and the files of its shares.
pub struct Made {
    pub fingerprint: String,
    pub files: Vec<PathBuf>,
}

/// Makes a RECOVERY key, writes its shares, and has this state directory's processes seal to it.
pub async fn make(app: &App, numbers: (u8, u8), replaces: bool, to: &Path) -> anyhow::Result<Made> {
    let split = split_recovery_key(&app.services, numbers, replaces, &app.principal).await?;
    let files = write_shares(&split, to)?;
    // What was written is what makes the key again: read back, before anything is sealed to it.
    let written = read_shares(&files)?;
    for some in written.windows(usize::from(numbers.0)) {
        let made = combine(some, split.fingerprint());
        made.context("the shares were not written as they were made")?;
    }
    keep_recovery_key(&app.services, &split, &app.principal).await?;
    let fingerprint = split.fingerprint().to_string();
    pin(app, &fingerprint)?;
    Ok(Made { fingerprint, files })
}

/// Writes each share to a new file that only its owner reads, and onto the disk.
fn write_shares(split: &SplitRecoveryKey, to: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if to.exists() {
        let said = format!(
            "{} is there already: name a directory that is not, so that no share is written over",
            to.display()
        );
        return Err(UsageError(said).into());
    }
    let made = DirBuilder::new().mode(0o700).recursive(true).create(to);
    made.with_context(|| format!("{} cannot be made", to.display()))?;
    let mut files = Vec::new();
    for share in split.shares() {
        let name = format!("share-{}-of-{}.json", share.index(), share.shares());
        let file = to.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut open| {
                open.write_all(share.to_text().as_bytes())?;
                open.sync_all()
            });
        written.with_context(|| format!("{} cannot be written", file.display()))?;
        files.push(file);
    }
    let synced = File::open(to).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(files)
}

/// Shares, each from its file.
pub fn read_shares(files: &[PathBuf]) -> anyhow::Result<Vec<Share>> {
    let read = |file: &PathBuf| {
        let what = || format!("share {}", file.display());
        let open = File::open(file).with_context(what)?;
        let bytes = input::read(open, &what(), SHARE_LIMIT)?;
        Share::parse(&bytes).with_context(what)
    };
    files.iter().map(read).collect()
}

/// Tells the processes of this state directory to seal to the key.
fn pin(app: &App, fingerprint: &str) -> anyhow::Result<()> {
    let file = app.places.pin_file();
    let new = file.with_extension("new");
    let written = fs::write(&new, format!("{fingerprint}\n"));
    let written = written.and_then(|()| fs::rename(&new, &file));
    written.with_context(|| format!("{} cannot be written", file.display()))
}

async fn check(files: &[PathBuf], app: &App) -> anyhow::Result<Exit> {
    let shares = read_shares(files)?;
    let known = recovery_key_views(&app.services, &app.principal).await?;
    let is_known = |share: &Share| {
        let fingerprint = share.fingerprint().to_string();
        known.iter().any(|key| key.fingerprint == fingerprint)
    };
    for (file, share) in files.iter().zip(&shares) {
        let of = match is_known(share) {
            true => "of this deployment",
            false => "which this deployment does not know",
        };
        output::line(&format!(
            "{}: share {} of {}, any {} make RECOVERY key {}, {of}",
            file.display(),
            share.index(),
            share.shares(),
            share.threshold(),
            share.fingerprint(),
        ))?;
    }
    if let [first, _, ..] = &shares[..] {
        let key = combine(&shares, first.fingerprint());
        let key = key.context("these shares do not make the key")?;
        let made = key.public_key().fingerprint();
        output::line(&format!("together they make RECOVERY key {made}"))?;
    }
    Ok(match shares.iter().all(is_known) {
        true => Exit::Done,
        false => Exit::PersonNeeded,
    })
}
