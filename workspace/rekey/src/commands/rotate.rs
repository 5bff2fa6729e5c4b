//! `rekey rotate`: asks for a rotation, and waits for its end if told to.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rekey_domain::{DurationError, KeyringName, RotationReason, RotationState, parse_duration};
use rekey_operations::{RotationView, requested_rotation};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{plan, rotations};
use crate::{
    app::App,
    exit::{Exit, NotInTime},
    output::{self, Output},
};

const POLL: Duration = Duration::from_millis(500);

/// What `rotate` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The keyring, such as phi.
    keyring: KeyringName,
    /// Wait until the rotation ends; exit code 1 if it did not complete.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 2h; then exit code 5. The rotation goes on.
    #[arg(long, requires = "wait", value_parser = duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Only say what the rotation would do and what stands in its way; exit code 3 if a person is needed.
    #[arg(long, conflicts_with = "wait")]
    plan: bool,
    /// Count every row for the plan; without it the figures are estimates.
    #[arg(long, requires = "plan")]
    count: bool,
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

/// Asks for the rotation.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.plan {
        return plan::run(&args.keyring, args.count, app).await;
    }
    let event = rekey_operations::rotate(
        &app.services,
        &args.keyring,
        RotationReason::Request,
        &app.principal,
    )
    .await?;
    if args.wait {
        let ended = wait(args, app, &event).await?;
        rotations::print(&ended, app.output)?;
        let completed = ended.state == RotationState::Completed;
        return Ok(if completed { Exit::Done } else { Exit::Failed });
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

/// Waits for the end of the rotation that the request led to.
async fn wait(args: &Args, app: &App, event: &str) -> anyhow::Result<RotationView> {
    let progress = progress();
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let view = look(app, event, &progress).await?;
        progress.set_message(message(view.as_ref()));
        if let Some(view) = view {
            progress.set_length(view.batches);
            progress.set_position(view.batches_done);
            if !view.state.is_live() {
                progress.finish_and_clear();
                return Ok(view);
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            progress.finish_and_clear();
            let problem = "the rotation did not end in time and goes on; is rekey up running? rekey rotations list shows how far it is";
            return Err(NotInTime(problem.to_owned()).into());
        }
        sleep(POLL).await;
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

fn message(view: Option<&RotationView>) -> String {
    let Some(view) = view else {
        return "waiting for the rotator; is rekey up running?".to_owned();
    };
    let due = view
        .due_at
        .map(|due| format!(", until {}", output::time(due)))
        .unwrap_or_default();
    format!("{}{due}, {} moved", view.state, view.moved)
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
