//! `rekey rotate`: asks for a rotation, and waits for its end if told to.

use std::num::NonZeroU64;

use rekey_domain::{Canary, ColumnName, KeyringName, RotationReason};
use rekey_messages::RotationRequested;
use rekey_operations::{columns_along, request_rotation, requested_rotation};
use serde_json::json;

use crate::commands::rotations::{self, plan, wait::Wait};
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

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
    #[command(flatten)]
    wait: Wait,
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
        !self.wait.is_asked() && !self.plan
    }

    fn canary(&self) -> Canary {
        Canary {
            pause_after: self.pause_after,
            only: self.only.clone(),
        }
    }
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
    if args.wait.is_asked() {
        let find = async || requested_rotation(&app.services, &event, &app.principal).await;
        return args.wait.until_the_end(app, find).await;
    }
    match app.output {
        Output::Json => output::object(
            "rekey.request/v1",
            json!({ "event": event, "keyring": args.keyring }),
        )?,
        Output::Table => output::line(&format!(
            "asked for a rotation of {}, event {event}; the workers do it, rekey rotations list shows how far it is",
            args.keyring
        ))?,
    }
    rotations::note_missing_workers(app).await?;
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
