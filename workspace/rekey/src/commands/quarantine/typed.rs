//! People type ids of values in quarantine, whole or in part.

use rekey_operations::quarantine_views;
use uuid::Uuid;

use crate::{app::App, commands::ids::Id};

/// What an id here is one of.
pub const VALUE: &str = "value in quarantine";

/// The ids of which some were typed in part.
pub async fn whole(ids: &[Id], app: &App) -> anyhow::Result<Vec<Uuid>> {
    Ok(Id::all_of(ids, VALUE, &known(ids, app).await?)?)
}

/// What may be meant, where that has to be looked for.
pub async fn known(ids: &[Id], app: &App) -> anyhow::Result<Vec<Uuid>> {
    if !ids.iter().any(Id::is_short) {
        return Ok(Vec::new());
    }
    let views = quarantine_views(&app.services, &app.principal).await?;
    Ok(views.iter().map(|view| view.id).collect())
}
