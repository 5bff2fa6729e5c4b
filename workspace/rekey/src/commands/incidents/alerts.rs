//! `rekey alerts`: states that people are told of until they have passed.

use rekey_operations::{AlertView, acknowledge_alert, alert_view, alert_views};
use serde_json::json;

use crate::commands::ids::Id;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of alerts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that are raised, the most pressing first.
    List,
    /// One of them, raised or over.
    Show {
        /// Its id, or its beginning.
        id: Id,
    },
    /// Say that you have seen one: it presses no more, and stands until its state has passed.
    Acknowledge {
        /// Its id, or its beginning.
        id: Id,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(app).await,
        Command::Show { id } => show(id, app).await,
        Command::Acknowledge { id } => acknowledge(id, app).await,
    }
}

async fn show(id: &Id, app: &App) -> anyhow::Result<Exit> {
    let alert = alert_view(&app.services, find(id, app).await?, &app.principal).await?;
    if app.output == Output::Json {
        let object = serde_json::to_value(alert)?;
        output::object("rekey.alert/v1", object)?;
        return Ok(Exit::Done);
    }
    let rows = [
        ("alert", alert.id.to_string()),
        ("kind", alert.kind.to_string()),
        ("severity", alert.severity.to_string()),
        ("of", alert.subject),
        ("since", time(alert.raised_at)),
        ("over", optional(alert.cleared_at.map(time))),
        ("seen by", optional(alert.acknowledged_by)),
        ("says", alert.says),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), value]);
    output::table(["", ""], rows.to_vec())?;
    Ok(Exit::Done)
}

/// An alert by its id, of which the beginning is enough while it is raised.
async fn find(id: &Id, app: &App) -> anyhow::Result<uuid::Uuid> {
    let known = alert_views(&app.services, &app.principal).await?;
    Ok(id.of("alert", known.iter().map(|alert| alert.id))?)
}

async fn list(app: &App) -> anyhow::Result<Exit> {
    let alerts = alert_views(&app.services, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.alerts/v1", json!({ "alerts": alerts }))?,
        Output::Table => {
            let row = |alert: AlertView| {
                [
                    alert.id.to_string(),
                    alert.severity.to_string(),
                    alert.kind.to_string(),
                    alert.subject,
                    time(alert.raised_at),
                    alert.says,
                ]
            };
            output::table(
                ["ALERT", "SEVERITY", "KIND", "OF", "SINCE", "SAYS"],
                alerts.into_iter().map(row).collect(),
            )?;
        }
    }
    Ok(Exit::Done)
}

async fn acknowledge(id: &Id, app: &App) -> anyhow::Result<Exit> {
    let known = alert_views(&app.services, &app.principal).await?;
    let id = id.of("alert", known.iter().map(|alert| alert.id))?;
    acknowledge_alert(&app.services, id, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.alert-acknowledged/v1", json!({ "id": id }))?,
        Output::Table => output::line(&format!("alert {id}: acknowledged"))?,
    }
    Ok(Exit::Done)
}
