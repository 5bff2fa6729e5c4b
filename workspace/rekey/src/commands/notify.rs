//! `rekey notify`: the channels by which people are told, and whether they work.

use std::time::Duration;

use rekey_domain::ChannelName;
use rekey_operations::notifications::{
    ChannelView, TestView, channel_views, test_channels, test_outcome,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// A notifier that works sends within this, or says why not.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What can be asked of channels.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Each channel: what goes there, and whether it takes it.
    Channels,
    /// Have the notifier send a test, to one channel or to all; exit code 3 unless each took it.
    Test {
        /// The channel, such as ops.
        channel: Option<ChannelName>,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::Channels => channels(app).await,
        Command::Test { channel } => test(channel.as_ref(), app).await,
    }
}

async fn channels(app: &App) -> anyhow::Result<Exit> {
    let channels = channel_views(&app.services, &app.principal).await?;
    if app.output == Output::Json {
        let object = json!({ "channels": channels });
        output::object("rekey.channels/v1", object)?;
        return Ok(Exit::Done);
    }
    let row = |channel: ChannelView| {
        let kinds = channel.policy.kinds.iter().flatten();
        let kinds: Vec<_> = kinds.map(ToString::to_string).collect();
        let state = match (channel.disabled_at, channel.failing_since) {
            _ if !channel.served => "no notifier serves it: start one with this file".to_owned(),
            (Some(at), _) => format!("its receiver wants nothing any more since {}", time(at)),
            (None, Some(at)) => format!("fails since {}", time(at)),
            (None, None) => "works, or was not used yet".to_owned(),
        };
        [
            channel.name.to_string(),
            channel.kind.to_string(),
            channel.policy.severity.to_string(),
            if kinds.is_empty() {
                "all".to_owned()
            } else {
                kinds.join(", ")
            },
            state,
            optional(channel.failure),
        ]
    };
    let head = ["CHANNEL", "KIND", "FROM", "KINDS", "STATE", "WHY"];
    output::table(head, channels.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

async fn test(channel: Option<&ChannelName>, app: &App) -> anyhow::Result<Exit> {
    let id = test_channels(&app.services, channel, &app.principal).await?;
    let deadline = Instant::now() + WITHIN;
    let outcome = loop {
        let outcome = test_outcome(&app.services, id, &app.principal).await?;
        let is_known = outcome.iter().all(|one| one.sent.is_some());
        if is_known || Instant::now() >= deadline {
            break outcome;
        }
        sleep(LOOK_EVERY).await;
    };
    let all_sent = outcome.iter().all(|one| one.sent == Some(true));
    match app.output {
        Output::Json => output::object("rekey.notify-test/v1", json!({ "channels": outcome }))?,
        Output::Table => {
            let row = |one: TestView| {
                let said = match one.sent {
                    Some(true) => "took it",
                    Some(false) => "did not take it",
                    None => {
                        "no notifier sent it: see that one runs, and that its file has this channel"
                    }
                };
                [
                    one.channel.to_string(),
                    said.to_owned(),
                    optional(one.failure),
                ]
            };
            output::table(
                ["CHANNEL", "TEST", "WHY"],
                outcome.into_iter().map(row).collect(),
            )?;
        }
    }
    Ok(match all_sent {
        true => Exit::Done,
        false => Exit::PersonNeeded,
    })
}
