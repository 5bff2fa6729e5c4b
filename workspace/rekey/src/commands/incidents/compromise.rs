//! `rekey compromise`: a key leaked; it is stopped and replaced at once, and every row is moved.

use chrono::{DateTime, Utc};
use rekey_domain::{KeyRef, format_duration};
use rekey_operations::{
    CompromisePlan, Report, Reported, compromise_plan, report_compromise, rotation_view,
};

use crate::commands::rotations::wait::Wait;
use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output, optional},
};

/// What `compromise` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The key, such as phi/3, or its id in ciphertext.
    key: KeyRef,
    /// Why you think so; sealed in the audit log, and nowhere else.
    #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
    reason: Option<String>,
    /// Since when others know it, such as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Only say what would be done.
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    plan: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Args {
    /// Whether it asks and does not wait.
    pub fn is_done_at_once(&self) -> bool {
        !self.wait.is_asked()
    }
}

/// Reports it, and says what came of it; with `--wait` ends as the rotation does that moves the rows.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.plan {
        let plan = compromise_plan(&app.services, &args.key, &app.principal).await?;
        say_plan(&plan, app)?;
        return Ok(Exit::Done);
    }
    let reason = args.reason.clone();
    let report = Report {
        key: args.key.clone(),
        reason: reason.ok_or_else(|| UsageError("--reason TEXT is missing".to_owned()))?,
        since: args.since,
    };
    let reported = report_compromise(&app.services, &report, &app.principal).await?;
    match (args.wait.is_asked(), reported.rotation) {
        (true, Some(rotation)) => {
            output::note(&format!("incident {}", reported.incident));
            reported.notes.iter().for_each(|note| output::note(note));
            let find = async || {
                rotation_view(&app.services, rotation, &app.principal)
                    .await
                    .map(Some)
            };
            args.wait.until_the_end(app, find).await
        }
        _ => {
            say(&reported, app)?;
            Ok(Exit::Done)
        }
    }
}

fn say(reported: &Reported, app: &App) -> anyhow::Result<()> {
    if app.output == Output::Json {
        let object = serde_json::to_value(reported)?;
        return Ok(output::object("rekey.compromise/v1", object)?);
    }
    let Reported {
        incident,
        key,
        state,
        ..
    } = reported;
    let noted = match reported.again {
        true => format!("incident {incident} has a further report of {key}, which is {state}"),
        false => format!("incident {incident}: {key} is {state}"),
    };
    output::line(&noted)?;
    if let Some(by) = &reported.replaced_by {
        output::line(&format!("{by} is primary from now on"))?;
    }
    if let Some(rotation) = reported.rotation {
        output::line(&format!(
            "rotation {rotation} reads every row for it; rekey rotations show {rotation} says how far it is"
        ))?;
    }
    for note in &reported.notes {
        output::line(note)?;
    }
    Ok(())
}

fn say_plan(plan: &CompromisePlan, app: &App) -> anyhow::Result<()> {
    if app.output == Output::Json {
        let object = serde_json::to_value(plan)?;
        return Ok(output::object("rekey.compromise-plan/v1", object)?);
    }
    let CompromisePlan {
        key, state, would, ..
    } = plan;
    output::line(&format!("{key} is {state}; a report would {would}"))?;
    let counted = plan.exposure.map(|found| {
        let (values, at) = (
            found.values,
            super::counted(found.counted_at, found.counted_from),
        );
        format!("{values} value(s), counted {at}")
    });
    output::line(&format!("under it: {}", optional(counted.as_ref())))?;
    if let Some(within) = plan.leases_end_within {
        output::line(&format!(
            "a process that hears of nothing may encrypt under it for {} more",
            format_duration(within)
        ))?;
    }
    output::line("nothing was changed")?;
    Ok(())
}
