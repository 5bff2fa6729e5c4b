//! `rekey dead-letters`: messages that were given up; sending them again, or being done with them.

use rekey_operations::{dismiss_dead_letters, open_dead_letters, retry_dead_letters};
use rekey_store::dead_letters::DeadLetter;
use serde_json::json;
use uuid::Uuid;

use crate::commands::ids::{Id, RotationId};
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, time},
};

/// What can be asked of dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Those that were neither sent again nor dismissed, and whose rotation has not gone on.
    List(Which),
    /// Send some again, once the cause is mended.
    Retry(Chosen),
    /// Be done with some that are not to be sent again.
    Dismiss {
        #[command(flatten)]
        chosen: Chosen,
        /// Why; for the audit log.
        #[arg(long, value_name = "WHY")]
        because: String,
    },
}

/// Which letters.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Of this rotation.
    #[arg(long, value_name = "ROTATION")]
    rotation: Option<RotationId>,
    /// That were given up for a reason with this text in it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// These, those of a filter, or all.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("chosen").required(true).multiple(true).args(["ids", "rotation", "reason", "all"]))]
pub struct Chosen {
    /// Their ids, or their beginnings.
    #[arg(conflicts_with_all = ["rotation", "reason", "all"])]
    ids: Vec<Id>,
    #[command(flatten)]
    which: Which,
    /// All of them.
    #[arg(long, conflicts_with_all = ["rotation", "reason"])]
    all: bool,
}

impl Which {
    async fn letters(&self, app: &App) -> anyhow::Result<Vec<DeadLetter>> {
        let mut letters = open_dead_letters(&app.services, &app.principal).await?;
        let rotation = match &self.rotation {
            Some(rotation) => Some(rotation.find(app).await?),
            None => None,
        };
        letters.retain(|letter| {
            let reason = self.reason.as_ref();
            rotation.is_none_or(|one| letter.rotation() == Some(one))
                && reason.is_none_or(|text| letter.error.contains(text))
        });
        Ok(letters)
    }
}

impl Chosen {
    async fn ids(&self, app: &App) -> anyhow::Result<Vec<Uuid>> {
        if !self.ids.is_empty() {
            let known = open_dead_letters(&app.services, &app.principal).await?;
            let known: Vec<_> = known.iter().map(|letter| letter.id).collect();
            return Ok(Id::all_of(&self.ids, "dead letter", &known)?);
        }
        let letters = self.which.letters(app).await?;
        Ok(letters.iter().map(|letter| letter.id).collect())
    }
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    let (services, principal) = (&app.services, &app.principal);
    match command {
        Command::List(which) => list(which, app).await?,
        Command::Retry(chosen) => {
            let ids = chosen.ids(app).await?;
            if !ids.is_empty() {
                retry_dead_letters(services, &ids, principal).await?;
            }
            said(&ids, "retried", "sent again", app)?;
        }
        Command::Dismiss { chosen, because } => {
            let ids = chosen.ids(app).await?;
            if !ids.is_empty() {
                dismiss_dead_letters(services, &ids, because, principal).await?;
            }
            said(&ids, "dismissed", "dismissed", app)?;
        }
    }
    Ok(Exit::Done)
}

/// `id` is that of the one, where it is one.
fn said(ids: &[Uuid], done: &str, text: &str, app: &App) -> std::io::Result<()> {
    if app.output == Output::Json {
        let one = if let [one] = ids { Some(one) } else { None };
        let object = json!({ "id": one, "ids": ids });
        return output::object(&format!("rekey.dead-letter-{done}/v1"), object);
    }
    if ids.is_empty() {
        return output::line("no dead letter is of this");
    }
    ids.iter()
        .try_for_each(|id| output::line(&format!("dead letter {id}: {text}")))
}

async fn list(which: &Which, app: &App) -> anyhow::Result<()> {
    let letters = which.letters(app).await?;
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
        "rotation": letter.rotation(),
        "queue": letter.queue,
        "type": letter.type_,
        "died_at": letter.died_at,
        "error": letter.error,
        "event": letter.event,
    })
}
