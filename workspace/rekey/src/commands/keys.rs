//! `rekey keys`: their state, use and age.

pub mod master;
pub mod ndjson;
pub mod value;
mod written;

use std::str::FromStr;

use rekey_domain::{KeyId, KeyName, NameError};
use rekey_envelope::Jwk;
use rekey_operations::{KeyView, certificates::published_keys};
use rekey_store::StoreError;
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional, time},
};

/// What can be asked of keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every key, keyring by keyring.
    List,
    /// One key.
    Show {
        /// Its name or id: phi/3 or 0a1b2c3d.
        key: KeyRef,
    },
    /// The public keys that certificates are verified with; a JWK set with --output json.
    Public,
}

/// A key as people name it: `phi/3`, or the eight hex digits of its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    Name(KeyName),
    Id(KeyId),
}

impl FromStr for KeyRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('/') {
            text.parse().map(Self::Name)
        } else {
            text.parse().map(Self::Id)
        }
    }
}

impl KeyRef {
    fn names(&self, view: &KeyView) -> bool {
        match self {
            Self::Name(name) => view.key == *name,
            Self::Id(id) => view.key_id == *id,
        }
    }
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Does it.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    let views = rekey_operations::key_views(&app.services, &app.principal).await?;
    match command {
        Command::Public => public(app).await?,
        Command::List if app.output == Output::Json => {
            output::object("rekey.keys/v1", json!({ "keys": views }))?
        }
        Command::List => table(&views)?,
        Command::Show { key } => {
            let view = find(&views, key)?;
            match app.output {
                Output::Json => output::object("rekey.key/v1", serde_json::to_value(view)?)?,
                Output::Table => show(view)?,
            }
        }
    }
    Ok(Exit::Done)
}

fn find<'a>(views: &'a [KeyView], key: &KeyRef) -> Result<&'a KeyView, StoreError> {
    let known = || views.iter().map(|view| view.key.to_string()).collect();
    let unknown = || StoreError::Unknown {
        what: format!("key {key}"),
        known: known(),
    };
    views
        .iter()
        .find(|view| key.names(view))
        .ok_or_else(unknown)
}

fn show(view: &KeyView) -> std::io::Result<()> {
    let not_yet = || "not primary for an hour yet, or no longer".to_owned();
    let rate = view
        .used_per_day
        .map(|rate| format!("{rate} a day by applications, on average"));
    let reached = view.max_reached_at.map(time);
    let never = || "not at this rate".to_owned();
    let rows = [
        ("key", view.key.to_string()),
        ("key id", view.key_id.to_string()),
        ("algorithm", view.algorithm.to_string()),
        ("state", view.state.to_string()),
        ("created", time(view.created_at)),
        ("expires", optional(view.expires_at.map(time))),
        ("used", format!("{} of {}", view.used, view.limit)),
        (
            "by applications",
            format!("{} of {}", view.used_by_applications, view.max_encryptions),
        ),
        ("rate", rate.clone().unwrap_or_else(not_yet)),
        (
            "rotates itself",
            reached.unwrap_or_else(|| rate.map_or_else(not_yet, |_| never())),
        ),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), value]);
    output::table(["", ""], rows.to_vec())
}

async fn public(app: &App) -> anyhow::Result<()> {
    let set = published_keys(&app.services, &app.principal).await?;
    if app.output == Output::Json {
        return Ok(output::object(
            "rekey.public-keys/v1",
            serde_json::to_value(set)?,
        )?);
    }
    let row = |key: &Jwk| {
        [
            optional(key.name.as_ref()),
            key.kid.to_string(),
            optional(key.state),
            optional(key.activated_at.as_ref()),
            optional(key.deactivated_at.as_ref()),
            key.x().to_owned(),
        ]
    };
    let head = [
        "KEY",
        "KEY ID",
        "STATE",
        "SIGNS FROM",
        "TO",
        "PUBLIC KEY (Ed25519, base64url)",
    ];
    Ok(output::table(head, set.keys.iter().map(row).collect())?)
}

fn table(views: &[KeyView]) -> std::io::Result<()> {
    let row = |view: &KeyView| {
        [
            view.key.to_string(),
            view.key_id.to_string(),
            view.algorithm.to_string(),
            view.state.to_string(),
            view.used.to_string(),
            time(view.created_at),
            optional(view.expires_at.map(time)),
        ]
    };
    output::table(
        [
            "KEY",
            "KEY ID",
            "ALGORITHM",
            "STATE",
            "USED",
            "CREATED",
            "EXPIRES",
        ],
        views.iter().map(row).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_version_or_id() {
        assert!(matches!("phi/3".parse(), Ok(KeyRef::Name(_))));
        assert!(matches!("0a1b2c3d".parse(), Ok(KeyRef::Id(_))));
        for bad in ["", "phi", "phi/0", "0a1b2c3"] {
            assert!(bad.parse::<KeyRef>().is_err(), "{bad}");
        }
    }
}
