//! `rekey rotations`: how far they are, and steering them.

pub mod census;
pub mod plan;
pub mod publish;
pub mod rotate;
pub mod sweep;
pub mod wait;

use rekey_operations::{
    RotationView, cancel_rotation, certificates::Signature, pause_rotation,
    resume_over_unknown_keys, resume_rotation, retry_rotation, rotation_view, worker_problems,
};
use serde_json::json;
use uuid::Uuid;

use rekey_domain::RotationKind;

use crate::commands::{certificate, ids::RotationId};
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of rotations.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every rotation, latest first.
    List,
    /// One rotation.
    Show {
        /// Its id, or its beginning, or latest.
        id: RotationId,
    },
    /// The certificate of a completed rotation: for people, or signed, with --output json.
    Certificate {
        /// Its id, or its beginning, or latest.
        id: RotationId,
    },
    /// Verify a signed certificate; exit code 1 if it is not to be believed.
    VerifyCertificate(certificate::Verify),
    /// Put a rotation on hold; what is in flight ends.
    Pause {
        /// Its id, or its beginning, or latest.
        id: RotationId,
    },
    /// Let a rotation that is on hold go on.
    Resume {
        /// Its id, or its beginning, or latest.
        id: RotationId,
        /// Also over values under keys that this store never had: it leaves them as they are, in quarantine.
        #[arg(long)]
        accept_unknown_keys: bool,
    },
    /// End a rotation where it is. Every row stays readable, the next rotation moves the rest.
    ///
    /// Nothing is taken back: after the switch the new key stays the primary key. Batches in flight
    /// end.
    Cancel {
        /// Its id, or its beginning, or latest.
        id: RotationId,
        /// Why; it is audited.
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Queue the failed batches of a rotation again, once the cause is mended.
    Retry {
        /// Its id, or its beginning, or latest.
        id: RotationId,
    },
}

impl Command {
    /// Whether it shows something, and asks for nothing.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::List | Self::Show { .. } | Self::Certificate { .. } | Self::VerifyCertificate(_)
        )
    }
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(app).await?,
        Command::Show { id } => show(id.find(app).await?, app).await?,
        Command::Certificate { id } => {
            return certificate::show(id.find_completed(app).await?, app).await;
        }
        Command::VerifyCertificate(args) => return certificate::verify(args, app).await,
        Command::Pause { id } => {
            let id = id.find(app).await?;
            pause_rotation(&app.services, id, &app.principal).await?;
            show(id, app).await?;
        }
        Command::Resume {
            id,
            accept_unknown_keys,
        } => {
            let id = id.find(app).await?;
            if *accept_unknown_keys {
                resume_over_unknown_keys(&app.services, id, &app.principal).await?;
            } else {
                resume_rotation(&app.services, id, &app.principal).await?;
            }
            show(id, app).await?;
        }
        Command::Cancel { id, because } => {
            let id = id.find(app).await?;
            cancel_rotation(&app.services, id, because, &app.principal).await?;
            show(id, app).await?;
        }
        Command::Retry { id } => {
            let id = id.find(app).await?;
            retry_rotation(&app.services, id, &app.principal).await?;
            show(id, app).await?;
        }
    }
    Ok(Exit::Done)
}

/// Notes who should do what was just asked for, and does not run.
pub async fn note_missing_workers(app: &App) -> anyhow::Result<()> {
    for problem in worker_problems(&app.services, &app.principal).await? {
        output::note(&problem);
    }
    Ok(())
}

async fn show(id: Uuid, app: &App) -> anyhow::Result<()> {
    print(
        &rotation_view(&app.services, id, &app.principal).await?,
        app.output,
    )
}

async fn list(app: &App) -> anyhow::Result<()> {
    let views = rekey_operations::rotation_views(&app.services, &app.principal).await?;
    if app.output == Output::Json {
        return Ok(output::object(
            "rekey.rotations/v1",
            json!({ "rotations": views }),
        )?);
    }
    Ok(table(&views)?)
}

/// Prints rotations as a table.
pub fn table(views: &[RotationView]) -> std::io::Result<()> {
    let row = |view: &RotationView| {
        [
            view.id.to_string(),
            view.keyring.clone(),
            view.kind.to_string(),
            view.state.to_string(),
            optional(view.target.as_ref()),
            format!("{}/{}", view.batches_done, view.batches),
            view.moved.to_string(),
            view.quarantined.to_string(),
            optional(view.certificate_signature.map(signature)),
            time(view.requested_at),
        ]
    };
    output::table(
        [
            "ROTATION",
            "KEYRING",
            "KIND",
            "STATE",
            "TARGET",
            "BATCHES",
            "MOVED",
            "QUARANTINED",
            "CERTIFICATE",
            "REQUESTED",
        ],
        views.iter().map(row).collect(),
    )
}

/// How a certificate is signed, in the word of JSON.
fn signature(signature: Signature) -> String {
    let word = serde_json::to_value(signature).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

/// What it does, for people.
fn kind(view: &RotationView) -> String {
    let columns: Vec<_> = view.columns.iter().map(ToString::to_string).collect();
    match view.kind {
        RotationKind::Switch => "switch: a new primary key, and all rows to it".to_owned(),
        RotationKind::Sweep if columns.is_empty() => {
            "sweep: no switch; all rows to the primary key".to_owned()
        }
        RotationKind::Sweep => format!(
            "sweep: no switch; the rows of {} to the primary key",
            columns.join(", ")
        ),
    }
}

/// Prints one rotation.
pub fn print(view: &RotationView, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return Ok(output::object(
            "rekey.rotation/v1",
            serde_json::to_value(view)?,
        )?);
    }
    let urgent = if view.urgent { ", urgent" } else { "" };
    let mut rows = vec![
        ["rotation", &view.id.to_string()].map(str::to_owned),
        ["keyring", &view.keyring].map(str::to_owned),
        ["kind", &kind(view)].map(str::to_owned),
        ["state", &view.state.to_string()].map(str::to_owned),
        [
            "reason",
            &format!("{}{urgent}, by {}", view.reason, view.principal),
        ]
        .map(str::to_owned),
        ["target", &optional(view.target.as_ref())].map(str::to_owned),
        [
            "batches",
            &format!(
                "{} of {} done, pass {}",
                view.batches_done, view.batches, view.passes
            ),
        ]
        .map(str::to_owned),
        [
            "values",
            &format!(
                "{} moved in {} rows, {} in quarantine",
                view.moved, view.rows, view.quarantined
            ),
        ]
        .map(str::to_owned),
        ["conflicts", &view.conflicts.to_string()].map(str::to_owned),
        ["requested", &time(view.requested_at)].map(str::to_owned),
        ["waits until", &optional(view.due_at.map(time))].map(str::to_owned),
        ["ended", &optional(view.ended_at.map(time))].map(str::to_owned),
    ];
    rows.extend(
        view.waiting
            .iter()
            .map(|why| ["waiting".to_owned(), why.clone()]),
    );
    let after = view.pause_after.map(|moved| format!("{moved} rows"));
    let only = view.only.as_ref().map(ToString::to_string);
    for (name, text) in [
        ("pauses after", &after),
        ("first only", &only),
        ("paused", &view.paused_because),
        ("cancelled", &view.cancelled_because),
        ("failure", &view.failure),
    ] {
        rows.extend(text.iter().map(|text| [name.to_owned(), text.clone()]));
    }
    output::table(["", ""], rows)?;
    if let Some(signed) = view.certificate_signature {
        let (id, signature) = (view.id, signature(signed));
        output::line("")?;
        output::line(&format!(
            "certificate: {signature}; to read it: rekey rotations certificate {id}"
        ))?;
    }
    Ok(())
}
