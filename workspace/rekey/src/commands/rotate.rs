//! `rekey rotate`: asks for a rotation, and waits for its end if told to.

use std::{
    collections::HashSet,
    io::{IsTerminal, stderr},
    num::NonZeroU64,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rekey_domain::{
    Canary, ColumnName, DurationError, KeyringName, RotationReason, RotationState, parse_duration,
};
use rekey_messages::RotationRequested;
use rekey_operations::{
    RotationView, columns_along, request_rotation, requested_rotation, worker_problems,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{plan, rotations};
use crate::{
    app::App,
    exit::{Exit, NotInTime},
    output::{self, Output},
};

const POLL: Duration = Duration::from_millis(500);
/// What a rotation waits for longer than this is said where no bar shows it.
const WORTH_A_NOTE: Duration = Duration::from_secs(5);
/// A reason may have figures in it that change.
const MOST_NOTES: usize = 20;

/// What `rotate` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The keyring, such as phi.
    keyring: KeyringName,
    /// Its batches overtake all others.
    #[arg(long)]
    urgent: bool,
    /// Pause once about so many rows are moved; rekey rotations resume moves the rest.
    #[arg(long, value_name = "ROWS")]
    pause_after: Option<NonZeroU64>,
    /// Move only the rows of this column, such as clinic.patients.ssn, and pause; rekey rotations
    /// resume moves the others. Other columns of the keyring in the same rows move along.
    #[arg(long, value_name = "COLUMN")]
    only: Option<ColumnName>,
    /// Wait until the rotation ends; exit code 1 if it did not complete, 3 if it pauses or leaves values
    /// in quarantine.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 2h; then exit code 5. The rotation goes on.
    #[arg(long, requires = "wait", value_parser = duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Only say what the rotation would do and what stands in its way; exit code 3 if a person is needed.
    #[arg(long, conflicts_with_all = ["wait", "urgent", "pause_after", "only"])]
    plan: bool,
    /// Count every row for the plan; without it the figures are estimates.
    #[arg(long, requires = "plan")]
    count: bool,
}

impl Args {
    /// Whether nothing is asked for.
    pub fn only_plans(&self) -> bool {
        self.plan
    }

    /// Whether it asks and neither waits nor looks at tables.
    pub fn is_done_at_once(&self) -> bool {
        !self.wait && !self.plan
    }

    fn canary(&self) -> Canary {
        Canary {
            pause_after: self.pause_after,
            only: self.only.clone(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

/// Asks for the rotation.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.plan {
        return plan::run(&args.keyring, args.count, app).await;
    }
    let canary = args.canary();
    let request = RotationRequested {
        urgent: args.urgent,
        canary: canary.clone(),
        ..RotationRequested::of_all(args.keyring.clone(), RotationReason::Request)
    };
    let event = request_rotation(&app.services, &request, &app.principal).await?;
    say_what_moves_along(&canary, app).await?;
    if args.wait {
        let ended = wait(args, app, &event).await?;
        rotations::print(&ended, app.output)?;
        return Ok(match ended.state {
            RotationState::Completed if ended.quarantined > 0 => Exit::PersonNeeded,
            RotationState::Completed => Exit::Done,
            state if state.is_live() => Exit::PersonNeeded,
            _ => Exit::Failed,
        });
    }
    match app.output {
        Output::Json => output::object(
            "rekey.request/v1",
            json!({ "event": event, "keyring": args.keyring }),
        )?,
        Output::Table => output::line(&format!(
            "asked for a rotation of {}, event {event}; the running workers do it, rekey rotations list shows how far it is",
            args.keyring
        ))?,
    }
    Ok(Exit::Done)
}

/// What else stands in the rows of a canary's column.
async fn say_what_moves_along(canary: &Canary, app: &App) -> anyhow::Result<()> {
    let Some(only) = &canary.only else {
        return Ok(());
    };
    let along = columns_along(&app.services, only).await?;
    if !along.is_empty() {
        let along: Vec<_> = along.iter().map(ToString::to_string).collect();
        output::note(&format!(
            "in the same rows as {only}, and moved along: {}",
            along.join(", ")
        ));
    }
    Ok(())
}

/// Waits for the end of the rotation that the request led to.
async fn wait(args: &Args, app: &App, event: &str) -> anyhow::Result<RotationView> {
    let progress = progress();
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut notes = Notes::default();
    loop {
        let view = look(app, event, &progress).await?;
        let waiting = match &view {
            Some(view) => view.waiting.clone(),
            None => worker_problems(&app.services).await?,
        };
        let message = message(view.as_ref(), &waiting);
        progress.set_message(message.clone());
        if let Some(view) = &view {
            progress.set_length(view.batches);
            progress.set_position(view.batches_done);
            if view.paused_because.is_some() || !view.state.is_live() {
                progress.finish_and_clear();
                return Ok(view.clone());
            }
        }
        progress.suspend(|| notes.say(&waiting));
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            progress.finish_and_clear();
            return Err(NotInTime(format!("the rotation did not end in time: {message}; rekey rotations list shows how far it is")).into());
        }
        sleep(POLL).await;
    }
}

/// What was said of why the rotation waits: what lasts is said, and not each second anew.
#[derive(Default)]
struct Notes {
    waits_since: Option<Instant>,
    said: HashSet<String>,
}

impl Notes {
    fn say(&mut self, waiting: &[String]) {
        if waiting.is_empty() {
            *self = Self::default();
            return;
        }
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if since.elapsed() < WORTH_A_NOTE {
            return;
        }
        for why in waiting {
            if self.said.len() < MOST_NOTES && self.said.insert(why.clone()) {
                output::note(&format!("waiting: {why}"));
            }
        }
    }
}

/// A store that is busy for a moment does not end the waiting.
async fn look(
    app: &App,
    event: &str,
    progress: &ProgressBar,
) -> anyhow::Result<Option<RotationView>> {
    loop {
        match requested_rotation(&app.services, event).await {
            Err(error) if error.is_retryable() => progress.set_message(error.to_string()),
            result => return Ok(result?),
        }
        sleep(POLL).await;
    }
}

fn message(view: Option<&RotationView>, waiting: &[String]) -> String {
    let waiting = match waiting {
        [] => String::new(),
        why => format!(", waiting: {}", why.join("; ")),
    };
    let Some(view) = view else {
        return format!("nobody has begun it yet{waiting}");
    };
    let due = view
        .due_at
        .map(|due| format!(", until {}", output::time(due)))
        .unwrap_or_default();
    format!("{}{due}, {} moved{waiting}", view.state, view.moved)
}

/// On stderr, and only on a terminal.
fn progress() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} batches  {msg}") {
        bar.set_style(style);
    }
    bar
}
