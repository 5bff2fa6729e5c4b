//! Where protected tables lie: whether a source is the database that the store means, and what is left in a table.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rekey_domain::{Found, TextEncoding};
use rekey_sources::{CensusColumn, CountedBy, PassToShow, Source, SourceError, is_same_place};
use rekey_store::{
    StoreError, Unit,
    columns::{self, Protected, Table},
    keyrings, rotations,
};
use uuid::Uuid;

use crate::sources::{counting, look::census_column};

/// Whether the source reached by `url` is the database that the store means, as far as anyone can tell: by the noted
/// identity, or, if one is missing, by the same URL as in the store.
pub(crate) async fn is_the_stores(
    stored: &columns::Source,
    url: &str,
    source: &dyn Source,
) -> Result<bool, SourceError> {
    let id = source.database_id().await?;
    Ok(match (&stored.database_id, id) {
        (Some(noted), Some(id)) => *noted == id,
        _ => is_same_place(&stored.url, url),
    })
}

/// The present name of a protected table, if it was renamed in its database.
pub(crate) async fn renamed(
    source: &dyn Source,
    table: &Table,
) -> Result<Option<String>, SourceError> {
    let Some(oid) = table.oid else {
        return Ok(None);
    };
    match source.describe(&table.relation).await {
        Ok(shape) if shape.oid == Some(oid) => Ok(None),
        Ok(_) | Err(SourceError::NoSuchTable { .. } | SourceError::NotATable { .. }) => {
            source.name_of(oid).await
        }
        Err(error) => Err(error),
    }
}

/// How long to wait for open transactions before the person is told whose they are.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A census of a column of `relation` that is to be left; its first result is by the column's own encoding. Everything
/// that begins as ciphertext counts, even if no rotation could open it, as it is lost with its key; on SQLite in either
/// encoding. No transaction that is open now may be left, as it could add more. `known` is the identity that the column
/// must have.
pub(crate) async fn counted(
    source: &dyn Source,
    relation: &str,
    column: &Protected,
    known: Option<String>,
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    let wanted = wanted(column);
    let pass = PassToShow {
        left: vec![HashSet::new(); wanted.len()],
        fence: Some(source.fence().await?),
        known: vec![known; wanted.len()],
        trusts_code: column.table.trusts_code(),
        ..PassToShow::default()
    };
    let began = Instant::now();
    loop {
        match counting::counted(source, relation, &wanted, Some(&pass)).await {
            // Of a busy server there is always one, of whichever database, and each ends soon.
            Err(SourceError::OpenTransactions { .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            counted => return Ok(counting::values(&counted?)),
        }
    }
}

/// How many of the values that were counted begin as ciphertext, or may: nobody can read them.
pub(crate) fn ciphertext(counted: &[Vec<(Found, u64)>]) -> u64 {
    let of_a_key = |(found, values): &(Found, u64)| match found {
        Found::Key(_) | Found::Unreadable => *values,
        Found::NotCiphertext | Found::Empty => 0,
    };
    counted.iter().flatten().map(of_a_key).sum()
}

fn wanted(column: &Protected) -> Vec<CensusColumn> {
    let encodings = match column.spec.encoding {
        own if !column.source.url.starts_with("sqlite") => vec![own],
        TextEncoding::Binary => vec![TextEncoding::Binary, TextEncoding::Base64],
        TextEncoding::Base64 => vec![TextEncoding::Base64, TextEncoding::Binary],
    };
    let each = encodings.into_iter().map(|encoding| CensusColumn {
        encoding,
        by: CountedBy::Start,
        ..census_column(column)
    });
    each.collect()
}

/// The live rotation of a keyring, in words, if there is one. The keyring is held from here on, so that
/// none starts before the unit ends.
pub(crate) async fn live_rotation(
    unit: &Unit,
    keyring: Uuid,
) -> Result<Option<String>, StoreError> {
    let keyring = keyrings::lock(unit, keyring).await?;
    let latest = rotations::latest(unit.db(), keyring.id).await?;
    let live = latest.filter(|latest| latest.state.is_live());
    Ok(live.map(|live| {
        let (id, state, keyring) = (live.id, live.state, &keyring.name);
        format!("rotation {id} of keyring {keyring} is {state} and works on it")
    }))
}
