//! `rekey alerts`: states that people are told of until they have passed.

use rekey_operations::{AlertView, acknowledge_alert, alert_views};
use serde_json::json;

use crate::commands::ids::Id;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, time},
};

/// What can be asked of alerts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that are raised, the most pressing first.
    List,
    /// Say that you have seen one: it presses no more, and stands until its state has passed.
    Acknowledge {
        /// Its id, or its beginning.
        id: Id,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    if let Command::Acknowledge { id } = command {
        return acknowledge(id, app).await;
    }
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
