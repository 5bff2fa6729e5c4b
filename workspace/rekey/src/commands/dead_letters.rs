//! `rekey dead-letters`: messages that were given up; sending them again, or being done with them.

use rekey_operations::{dismiss_dead_letter, retry_dead_letter};
use rekey_store::dead_letters::{self, DeadLetter};
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, time},
};

/// What can be asked of dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that were neither sent again nor dismissed.
    List,
    /// Send one again, once the cause is mended.
    Retry {
        /// Its id.
        id: Uuid,
    },
    /// Be done with one that is not to be sent again.
    Dismiss {
        /// Its id.
        id: Uuid,
        /// Why; for the audit log.
        #[arg(long, value_name = "WHY")]
        because: String,
    },
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(app).await?,
        Command::Retry { id } => {
            retry_dead_letter(&app.services, *id, &app.principal).await?;
            said(*id, "retried", "was sent again", app)?;
        }
        Command::Dismiss { id, because } => {
            dismiss_dead_letter(&app.services, *id, because, &app.principal).await?;
            said(*id, "dismissed", "is dismissed", app)?;
        }
    }
    Ok(Exit::Done)
}

fn said(id: Uuid, done: &str, text: &str, app: &App) -> std::io::Result<()> {
    match app.output {
        Output::Json => {
            output::object(&format!("rekey.dead-letter-{done}/v1"), json!({ "id": id }))
        }
        Output::Table => output::line(&format!("dead letter {id} {text}")),
    }
}

async fn list(app: &App) -> anyhow::Result<()> {
    let letters = dead_letters::open(app.services.store.db()).await?;
    if app.output == Output::Json {
        let letters: Vec<_> = letters.iter().map(letter_json).collect();
        return Ok(output::object(
            "rekey.dead-letters/v1",
            json!({ "dead_letters": letters }),
        )?);
    }
    let row = |letter: DeadLetter| {
        [
            letter.id.to_string(),
            letter.queue,
            letter.type_,
            time(letter.died_at),
            letter.error,
        ]
    };
    Ok(output::table(
        ["DEAD LETTER", "QUEUE", "TYPE", "DIED", "WHY"],
        letters.into_iter().map(row).collect(),
    )?)
}

fn letter_json(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "id": letter.id,
        "queue": letter.queue,
        "type": letter.type_,
        "died_at": letter.died_at,
        "error": letter.error,
        "event": letter.event,
    })
}
