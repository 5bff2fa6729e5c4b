//! `rekey incidents`: what happened; taking it up, and saying that it is over.

pub mod alerts;
pub mod compromise;

use chrono::{DateTime, Utc};
use rekey_operations::{
    IncidentView, acknowledge_incident, incident_view, incident_views, resolve_incident,
};
use serde_json::json;
use uuid::Uuid;

use crate::commands::ids::Id;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of incidents.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every incident, latest first.
    List,
    /// One incident, with what its reporters said.
    Show {
        /// Its id, or its beginning.
        id: Id,
    },
    /// Say that you look at one: it is nobody else's to find.
    Acknowledge {
        /// Its id, or its beginning.
        id: Id,
    },
    /// Say that one is over. Its key stays compromised.
    Resolve {
        /// Its id, or its beginning.
        id: Id,
        /// Why; for the audit log.
        #[arg(long, value_name = "WHY")]
        because: String,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    let (services, principal) = (&app.services, &app.principal);
    match command {
        Command::List => list(app).await?,
        Command::Show { id } => {
            let id = find(id, app).await?;
            show(&incident_view(services, id, principal).await?, app)?;
        }
        Command::Acknowledge { id } => {
            let id = find(id, app).await?;
            acknowledge_incident(services, id, principal).await?;
            said(id, "acknowledged", app)?;
        }
        Command::Resolve { id, because } => {
            let id = find(id, app).await?;
            resolve_incident(services, id, because, principal).await?;
            said(id, "resolved", app)?;
        }
    }
    Ok(Exit::Done)
}

async fn find(id: &Id, app: &App) -> anyhow::Result<Uuid> {
    if !id.is_short() {
        return Ok(id.of("incident", [])?);
    }
    let known = incident_views(&app.services, &app.principal).await?;
    Ok(id.of("incident", known.iter().map(|incident| incident.id))?)
}

fn said(id: Uuid, done: &str, app: &App) -> std::io::Result<()> {
    match app.output {
        Output::Json => output::object(&format!("rekey.incident-{done}/v1"), json!({ "id": id })),
        Output::Table => output::line(&format!("incident {id}: {done}")),
    }
}

async fn list(app: &App) -> anyhow::Result<()> {
    let incidents = incident_views(&app.services, &app.principal).await?;
    if app.output == Output::Json {
        let object = json!({ "incidents": incidents });
        return Ok(output::object("rekey.incidents/v1", object)?);
    }
    let row = |incident: IncidentView| {
        [
            incident.id.to_string(),
            incident.kind.to_string(),
            incident.state.to_string(),
            key(&incident),
            time(incident.opened_at),
            incident.reported_by.to_string(),
        ]
    };
    Ok(output::table(
        ["INCIDENT", "KIND", "STATE", "KEY", "OPENED", "REPORTED BY"],
        incidents.into_iter().map(row).collect(),
    )?)
}

fn key(incident: &IncidentView) -> String {
    let name = incident.key.as_ref().map(ToString::to_string);
    name.unwrap_or_else(|| incident.key_id.to_string())
}

fn earlier(incident: &IncidentView) -> Option<String> {
    let earlier: Vec<_> = incident
        .earlier_rotations
        .iter()
        .map(Uuid::to_string)
        .collect();
    (!earlier.is_empty()).then(|| earlier.join(", "))
}

/// When what stood under a key was counted.
fn counted(last: DateTime<Utc>, first: Option<DateTime<Utc>>) -> String {
    let last = time(last);
    first.map(time).map_or_else(
        || format!("at {last}"),
        |first| format!("some of them at {first}, others at {last} at the latest"),
    )
}

fn show(incident: &IncidentView, app: &App) -> anyhow::Result<()> {
    if app.output == Output::Json {
        let object = serde_json::to_value(incident)?;
        return Ok(output::object("rekey.incident/v1", object)?);
    }
    let exposure = incident.exposure.map(|found| {
        let (values, at) = (found.values, counted(found.counted_at, found.counted_from));
        format!("{values} value(s) in the columns of its keyring when they were last counted, {at}")
    });
    let facts = [
        ("incident", incident.id.to_string()),
        ("kind", incident.kind.to_string()),
        ("state", incident.state.to_string()),
        ("key", format!("{} ({})", key(incident), incident.key_id)),
        ("reported by", incident.reported_by.to_string()),
        ("opened", time(incident.opened_at)),
        (
            "known to others since",
            optional(incident.since.map(time).as_ref()),
        ),
        ("under the key", optional(exposure.as_ref())),
        ("moved by rotation", optional(incident.rotation.as_ref())),
        ("before that by", optional(earlier(incident).as_ref())),
        ("taken up by", optional(incident.acknowledged_by.as_ref())),
        ("resolved by", optional(incident.resolved_by.as_ref())),
    ];
    for (name, value) in facts {
        output::line(&format!("{name:<22}{value}"))?;
    }
    if let Some(needs) = &incident.needs {
        output::line(needs)?;
    }
    if let Some(why) = &incident.withheld {
        output::line(&format!("the first reason was not kept: {why}"))?;
    }
    output::line("")?;
    for report in &incident.reports {
        let said = report.said.as_deref().unwrap_or("-");
        let (at, by, action) = (time(report.at), &report.by, &report.action);
        output::line(&format!("{at}  {by}  {action}: {said}"))?;
    }
    Ok(())
}
