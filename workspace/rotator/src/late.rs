//! The late pass of an emergency: it moves what was encrypted in time and stored late. What a later pass finds under the compromised key is left.

use std::collections::HashMap;

use rekey_domain::RotationState;
use rekey_operations::OperationError;
use rekey_store::{Unit, columns::Protected, keys};
use uuid::Uuid;

use crate::{advance::Advance, changed_parts, facts, proof};

/// Whether a pass may begin, and how.
pub enum Pass {
    /// As any.
    Usual,
    /// As the late one.
    Late,
    /// Not yet: something was noted first.
    NotYet,
}

/// Looks whether the pass that is about to be planned is the late one: nobody may write under the compromised key any
/// more, and every transaction that was open by then has ended. The first pass of all waits for nothing.
///
/// # Errors
/// [`SourceError::OpenTransactions`](rekey_sources::SourceError::OpenTransactions), which the rotation waits for.
pub async fn of_next(advance: &Advance<'_>, columns: &[Protected]) -> Result<Pass, OperationError> {
    let rotation = &advance.rotation;
    let begins = rotation.pass > 0 && rotation.pass_columns.is_none();
    if !rotation.is_emergency() || rotation.state != RotationState::Verifying || !begins {
        return Ok(Pass::Usual);
    }
    let now = advance.services.store.now().await?;
    if advance.leases_end.is_some_and(|end| now < end) {
        return Ok(Pass::Usual);
    }
    let Some(fences) = proof::fences(advance, columns).await? else {
        return Ok(Pass::NotYet);
    };
    all_ended(advance, columns, &fences).await?;
    Ok(Pass::Late)
}

async fn all_ended(
    advance: &Advance<'_>,
    columns: &[Protected],
    fences: &HashMap<Uuid, String>,
) -> Result<(), OperationError> {
    for (source, fence) in fences {
        let mut sources = columns.iter().map(|column| &column.source);
        if let Some(source) = sources.find(|one| one.id == *source) {
            let open = advance.services.source(source).await?;
            open.behind(fence).await?;
        }
    }
    Ok(())
}

/// What a pass that ends leaves behind.
pub enum End {
    /// What is found under compromised keys from now on is left.
    Closes,
    /// It was not the late pass, or did not read every column.
    Open,
    /// A part has to be read first.
    NotYet,
}

/// Looks whether the pass that ends was the late one, and read all that there is.
pub async fn end(advance: &Advance<'_>, columns: &[Protected]) -> Result<End, OperationError> {
    let rotation = &advance.rotation;
    let mut all = columns.iter();
    if !rotation.is_late_pass() || !all.all(|column| facts::is_of_pass(rotation, column.id)) {
        return Ok(End::Open);
    }
    Ok(match changed_parts::plan_changed_parts(advance).await? {
        true => End::NotYet,
        false => End::Closes,
    })
}

/// Closes the compromised keys of the keyring, where the rotation went over all that it protects. An ordinary one that
/// completes has found nothing under them either, as after an emergency that was cancelled.
pub async fn close(unit: &Unit, advance: &Advance<'_>) -> Result<(), OperationError> {
    let rotation = &advance.rotation;
    if rotation.sweep_columns.is_some() {
        return Ok(());
    }
    Ok(keys::close(unit, advance.keyring.id).await?)
}
