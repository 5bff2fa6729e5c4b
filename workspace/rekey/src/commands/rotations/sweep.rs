//! `rekey sweep`: moves rows below a keyring's primary key to it, and replaces no key.

use rekey_domain::{ColumnName, KeyringName, RotationState};
use rekey_operations::{SweepOutcome, SweepView, rotation_view, sweep_keyring};

use crate::commands::rotations::{self, wait::Wait};
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, time},
};

/// What `sweep` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The keyring, such as phi.
    keyring: KeyringName,
    /// Only the rows of this column, such as clinic.patients.ssn; may be said more than once. Other columns of the
    /// keyring in the same rows move along.
    #[arg(long = "column", value_name = "COLUMN")]
    columns: Vec<ColumnName>,
    #[command(flatten)]
    wait: Wait,
}

impl Args {
    /// Whether it asks and does not wait.
    pub fn is_done_at_once(&self) -> bool {
        !self.wait.is_asked()
    }
}

/// Asks for it; exit code 3 where a rotation that is on hold would do it.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let Args {
        keyring, columns, ..
    } = args;
    let asked = sweep_keyring(&app.services, keyring, columns, &app.principal).await?;
    if args.wait.is_asked() {
        let find = async || {
            rotation_view(&app.services, asked.rotation, &app.principal)
                .await
                .map(Some)
        };
        return args.wait.until_the_end(app, find).await;
    }
    match app.output {
        Output::Json => output::object("rekey.sweep/v1", serde_json::to_value(&asked)?)?,
        Output::Table => output::line(&sentence(&asked, "moves rows to its primary key"))?,
    }
    rotations::note_missing_workers(app).await?;
    Ok(match asked.paused_because {
        Some(_) => Exit::PersonNeeded,
        None => Exit::Done,
    })
}

/// What does it, and when; `what` it does.
pub fn sentence(asked: &SweepView, what: &str) -> String {
    let SweepView {
        keyring,
        rotation,
        state,
        ..
    } = asked;
    let says = match asked.outcome {
        SweepOutcome::Started => format!(
            "sweep {rotation} of {keyring} {what}; the workers do it, rekey rotations show {rotation} says how far it is"
        ),
        SweepOutcome::AnotherPass => format!(
            "rotation {rotation} of {keyring} is {state}: it begins another pass now, which {what}"
        ),
        SweepOutcome::Joined => format!(
            "rotation {rotation} of {keyring} is {state} and {what} by itself, in its sweep after the grace period{}",
            ends(asked)
        ),
    };
    let Some(why) = &asked.paused_because else {
        return says;
    };
    format!("{says}\nit is paused ({why}); to go on: rekey rotations resume {rotation}")
}

fn ends(asked: &SweepView) -> String {
    let of_grace = asked
        .not_before
        .filter(|_| asked.state == RotationState::Grace);
    of_grace.map_or_else(String::new, |at| format!(", which ends at {}", time(at)))
}
