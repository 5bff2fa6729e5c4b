//! `rekey alerts`: states that people are told of until they have passed.

use rekey_operations::{AlertView, alert_views};
use serde_json::json;

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
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    let Command::List = command;
    let alerts = alert_views(&app.services, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.alerts/v1", json!({ "alerts": alerts }))?,
        Output::Table => {
            let row = |alert: AlertView| {
                [
                    alert.severity.to_string(),
                    alert.kind.to_string(),
                    alert.subject,
                    time(alert.raised_at),
                    alert.says,
                ]
            };
            output::table(
                ["SEVERITY", "KIND", "OF", "SINCE", "SAYS"],
                alerts.into_iter().map(row).collect(),
            )?;
        }
    }
    Ok(Exit::Done)
}
