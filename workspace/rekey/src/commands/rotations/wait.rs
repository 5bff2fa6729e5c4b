//! Waiting for the end of a rotation that was asked for.

use std::{
    collections::HashSet,
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rekey_domain::{DurationError, RotationState, parse_duration};
use rekey_operations::{OperationError, RotationView, worker_problems};
use tokio::time::{Instant, sleep, timeout_at};

use crate::commands::rotations;
use crate::{
    app::App,
    exit::{Exit, NotInTime},
    output,
};

const POLL: Duration = Duration::from_millis(500);
/// A look that was begun in time is let end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without a progress bar, waits that are longer than this are reported.
const WORTH_A_NOTE: Duration = Duration::from_secs(5);
/// A reason may have figures in it that change.
const MOST_NOTES: usize = 20;

/// Whether to wait, and how long.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Wait until the rotation ends; exit code 1 if it did not complete, 3 if it pauses or leaves values
    /// in quarantine.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 2h; then exit code 5. The rotation goes on.
    #[arg(long, requires = "wait", value_parser = duration, value_name = "DURATION")]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

impl Wait {
    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.wait
    }

    /// Waits until the rotation that `find` gives ends or pauses, prints it, and gives the exit code.
    pub async fn until_the_end(
        &self,
        app: &App,
        find: impl AsyncFn() -> Result<Option<RotationView>, OperationError>,
    ) -> anyhow::Result<Exit> {
        let ended = self.ended(app, find).await?;
        rotations::print(&ended, app.output)?;
        Ok(match ended.state {
            RotationState::Completed if ended.quarantined > 0 => Exit::PersonNeeded,
            RotationState::Completed => Exit::Done,
            state if state.is_live() => Exit::PersonNeeded,
            _ => Exit::Failed,
        })
    }

    async fn ended(
        &self,
        app: &App,
        find: impl AsyncFn() -> Result<Option<RotationView>, OperationError>,
    ) -> anyhow::Result<RotationView> {
        let progress = progress();
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut notes = Notes::default();
        loop {
            let view = look(&find, (&progress, &mut notes), deadline).await?;
            let waiting = match &view {
                Some(view) => view.waiting.clone(),
                None => worker_problems(&app.services, &app.principal).await?,
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
}

/// A store that is busy or away for a while does not end the waiting, unless that was to end by then.
async fn look(
    find: &impl AsyncFn() -> Result<Option<RotationView>, OperationError>,
    (progress, notes): (&ProgressBar, &mut Notes),
    deadline: Option<Instant>,
) -> anyhow::Result<Option<RotationView>> {
    let mut why = "the store does not answer".to_owned();
    let looking = async {
        loop {
            match find().await {
                Err(error) if error.is_retryable() => why = error.to_string(),
                result => return result,
            }
            progress.set_message(why.clone());
            progress.suspend(|| notes.say(std::slice::from_ref(&why)));
            sleep(POLL).await;
        }
    };
    let found = match deadline {
        None => looking.await,
        Some(deadline) => match timeout_at(deadline + PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => {
                progress.finish_and_clear();
                let said = format!(
                    "nothing was learned of the rotation in time: {why}; it goes on by itself once the store is back"
                );
                return Err(NotInTime(said).into());
            }
        },
    };
    Ok(found?)
}

/// Reports why the rotation waits: only what lasts, and not every second again.
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
