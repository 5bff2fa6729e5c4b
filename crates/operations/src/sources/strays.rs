//! Ciphertext that no protected column covers. Every value of a source's other columns is counted, before anything is
//! done that would leave ciphertext behind.

use std::collections::HashMap;

use rekey_domain::{Found, KeyId, KeyName, KeyringName};
use rekey_sources::{CensusColumn, CountedBy, Source, SourceError, TableShape};
use rekey_store::columns::Protected;

use crate::sources::{
    check::{ProtectedColumns, protected},
    counting,
};

/// What was found beside the protected columns.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// Columns that hold values which begin as ciphertext.
    pub(crate) found: Vec<Stray>,
    /// Columns that our role may not read, as `table.column`.
    pub(crate) unreadable: Vec<String>,
}

/// A column with ciphertext.
#[derive(Debug)]
pub(crate) struct Stray {
    /// Its table, as `relation` has it.
    pub(crate) relation: String,
    /// Its name, and how the ciphertext stands in it.
    pub(crate) column: CensusColumn,
    /// What was counted in it.
    pub(crate) counts: Vec<(Found, u64)>,
}

/// Looks at all tables, or at this one and those that its rows lie in, which may have columns of their own.
pub(crate) async fn look(
    source: &dyn Source,
    protected: &ProtectedColumns,
    only: Option<&TableShape>,
) -> Result<Strays, SourceError> {
    let mut strays = Strays::default();
    for table in source.candidates().await? {
        let is_of = |shape: &TableShape| {
            protected.is_one_name(&shape.full_name, &table.full_name)
                || shape.heaps.contains(&table.relation)
        };
        if only.is_some_and(|only| !is_of(only)) {
            continue;
        }
        let covered = |name: &str| protected.covers(&table.full_name, name);
        let unreadable = table.unreadable.iter().filter(|name| !covered(name));
        let named = unreadable.map(|name| format!("{}.{name}", table.relation));
        strays.unreadable.extend(named);
        let columns: Vec<_> = table
            .columns
            .iter()
            .filter(|column| !covered(&column.name))
            .map(|column| CensusColumn {
                by: CountedBy::AnyForm,
                ..column.clone()
            })
            .collect();
        if columns.is_empty() {
            continue;
        }
        let counted = count(source, &table.relation, &columns).await?;
        for (column, counts) in columns.into_iter().zip(counted) {
            if counts
                .iter()
                .any(|(found, _)| !matches!(found, Found::NotCiphertext | Found::Empty))
            {
                let relation = table.relation.clone();
                strays.found.push(Stray {
                    relation,
                    column,
                    counts,
                });
            }
        }
    }
    Ok(strays)
}

/// A materialized view cannot be locked as a census locks tables: all of it is looked at.
async fn count(
    source: &dyn Source,
    relation: &str,
    columns: &[CensusColumn],
) -> Result<Vec<Vec<(Found, u64)>>, SourceError> {
    match counting::counted(source, relation, columns, None).await {
        Err(SourceError::NotATable { .. }) => {
            let sample = source.sample(relation, columns, u32::MAX).await?;
            Ok(sample.counts)
        }
        counted => Ok(counting::values(&counted?)),
    }
}

/// The columns, as `table.column`, that hold ciphertext of the keyrings of `columns`, or values that nobody or not our
/// role can read, and that no protected column of that keyring covers; one of another keyring would not count it.
/// Columns in `soon` are about to be protected under their keyrings and cover too.
pub(crate) async fn of_ours(
    source: &dyn Source,
    columns: &[&Protected],
    all: &[Protected],
    soon: &[(&KeyringName, &TableShape, &str)],
    keys: &HashMap<KeyId, KeyName>,
) -> Result<Vec<String>, SourceError> {
    let mut places = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let is_like_it = |one: &Protected| one.keyring_id == column.keyring_id;
        if columns[..at].iter().any(|one| is_like_it(one)) {
            continue;
        }
        let mut covering: Vec<_> = all.iter().filter(|one| is_like_it(one)).collect();
        covering.retain(|one| one.source.id == column.source.id);
        let mut covered = protected(source, &covering).await;
        for (keyring, shape, name) in soon {
            if **keyring == column.spec.keyring {
                covered.add(shape, name);
            }
        }
        let mut keys = keys.clone();
        keys.retain(|_, key| key.keyring == column.spec.keyring);
        let strays = look(source, &covered, None).await?;
        let ours = strays.found.iter().filter(|stray| stray.is_ours(&keys));
        places.extend(ours.map(Stray::place));
        // What it holds nobody knows. On SQLite who opens the file reads all of it.
        if !column.source.url.starts_with("sqlite") {
            places.extend(strays.unreadable.iter().cloned());
        }
    }
    // On SQLite each column is looked at in both encodings.
    places.dedup();
    Ok(places)
}

impl Stray {
    /// What its database fails to read may be ours.
    pub(crate) fn is_ours(&self, keys: &HashMap<KeyId, KeyName>) -> bool {
        self.counts.iter().any(|(found, _)| match found {
            Found::Key(id) => keys.contains_key(id),
            Found::Unreadable => true,
            Found::NotCiphertext | Found::Empty => false,
        })
    }

    /// `table.column`.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.relation, self.column.name)
    }
}
