//! Protected tables that have another place in the file than in the store. The same table under another name is
//! followed. Another table would leave the old values to nobody, so it needs what a release needs.

use std::{collections::HashMap, sync::Arc};

use rekey_domain::{Found, KeyId, KeyName};
use rekey_sources::{Source, SourceError, TableShape, is_same_place};
use rekey_store::{
    StoreError, Unit,
    columns::{self, Protected},
};
use uuid::Uuid;

use super::looked::{Looked, Resolved};
use crate::{
    Desired, OperationError, STORE_SOURCE, Services, SourceConfig,
    sources::{
        by_table::tables,
        look::{key_names, table_subject},
        strays,
        whereabouts::{ciphertext, counted, is_the_stores, live_rotation, renamed},
    },
};

/// Where the protected tables were found, before anything is written.
pub(super) struct Whereabouts {
    /// What the store said of them: table, URL of its source, relation.
    seen: Vec<(Uuid, String, String)>,
    /// Keyrings of columns whose table is replaced by another one, with that table.
    left: Vec<(Uuid, String)>,
    /// What the databases of sources are known by.
    databases: HashMap<String, String>,
}

/// Looks at every protected table of the file's sources.
///
/// # Errors
/// [`OperationError::Refused`] for one that would be another table while ciphertext is left in the old.
pub(super) async fn look(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<Whereabouts, OperationError> {
    let columns = columns::all(services.store.db()).await?;
    let mut found = Whereabouts {
        seen: seen(&columns, desired),
        left: Vec::new(),
        databases: HashMap::new(),
    };
    for source in named(desired) {
        let here = &looked.sources[source.name.as_str()];
        let mut tables = tables(&columns);
        tables.retain(|table| table[0].source.name == source.name);
        if let Some(first) = tables.first() {
            let stored = &first[0].source;
            let look = Look {
                keys: key_names(services).await?,
                source,
                here,
                there: there(stored, source, here).await?,
                resolved: &looked.resolved,
                columns: columns.clone(),
            };
            for table in tables {
                if look.is_another(&table).await? {
                    let name = table_subject(table[0]);
                    let keyrings = table.iter().map(|column| column.keyring_id);
                    found
                        .left
                        .extend(keyrings.map(|keyring| (keyring, name.clone())));
                }
            }
        }
        if let Some(id) = here.database_id().await? {
            found.databases.insert(source.name.clone(), id);
        }
    }
    Ok(found)
}

impl Whereabouts {
    /// Checks that nothing changed since the look and that nothing works on what is left behind; locked until the unit
    /// ends.
    pub(super) async fn hold(&self, unit: &Unit, desired: &Desired) -> Result<(), OperationError> {
        let mut left = self.left.clone();
        left.sort();
        left.dedup_by_key(|(keyring, _)| *keyring);
        for (keyring, table) in &left {
            refuse_live_rotation(unit, *keyring, table).await?;
        }
        columns::lock_sources(unit).await?;
        if seen(&columns::all(unit.db()).await?, desired) == self.seen {
            return Ok(());
        }
        let what = "where a protected table lies".to_owned();
        Err(StoreError::Stale { what }.into())
    }

    /// What the source's database is known by.
    pub(super) fn database(&self, source: &str) -> Option<&str> {
        self.databases.get(source).map(String::as_str)
    }
}

async fn refuse_live_rotation(
    unit: &Unit,
    keyring: Uuid,
    table: &str,
) -> Result<(), OperationError> {
    let Some(live) = live_rotation(unit, keyring).await? else {
        return Ok(());
    };
    Err(OperationError::Refused(format!(
        "{table} would be another table, while {live}; apply it when that is over"
    )))
}

/// Without the store as a source: it is where it was opened.
fn named(desired: &Desired) -> impl Iterator<Item = &SourceConfig> {
    let sources = desired.sources.iter();
    sources.filter(|source| source.name != STORE_SOURCE)
}

fn seen(columns: &[Protected], desired: &Desired) -> Vec<(Uuid, String, String)> {
    let of_file = |column: &&Protected| named(desired).any(|one| one.name == column.source.name);
    let place = |column: &Protected| {
        let (url, relation) = (column.source.url.clone(), column.table.relation.clone());
        (column.table.id, url, relation)
    };
    let mut seen: Vec<_> = columns.iter().filter(of_file).map(place).collect();
    seen.sort();
    seen.dedup();
    seen
}

/// Where the source's tables were.
enum There {
    /// In the database that the file names.
    Here,
    /// In another, which we can still look into.
    Elsewhere(Arc<dyn Source>),
    /// In another, for all we know, and why we cannot look into it.
    Unknown(String),
}

/// By the store's URL, which has no password, it may be out of reach.
async fn there(
    stored: &columns::Source,
    source: &SourceConfig,
    here: &Arc<dyn Source>,
) -> Result<There, OperationError> {
    if is_the_stores(stored, source.url.expose_url(), &**here).await? {
        let original = original(stored, source, &**here).await?;
        return Ok(original.map_or(There::Here, There::Elsewhere));
    }
    let there = match rekey_sources::open(&stored.url).await {
        Ok(there) => there,
        Err(error) => return Ok(There::Unknown(error.to_string())),
    };
    let (id, other) = (here.database_id().await?, there.database_id().await?);
    Ok(match &stored.database_id {
        Some(noted) if other.as_ref() != Some(noted) => There::Unknown(format!(
            "{} leads to another database now than the one that was noted, {noted}",
            stored.url
        )),
        _ if id.is_some() && id == other => There::Here,
        _ => There::Elsewhere(there),
    })
}

/// The original of which the file's database is a physical clone, if the original still takes writes where the store
/// says. A clone has the same number, so values left in the original would be nobody's.
async fn original(
    stored: &columns::Source,
    source: &SourceConfig,
    here: &dyn Source,
) -> Result<Option<Arc<dyn Source>>, OperationError> {
    if is_same_place(&stored.url, source.url.expose_url()) {
        return Ok(None);
    }
    let Ok(there) = rekey_sources::open(&stored.url).await else {
        return Ok(None);
    };
    // A database with another number is no clone: a person accepted that the values are no longer there.
    let number = there.database_id().await?;
    let is_clone = (number.is_none() || number == here.database_id().await?)
        && there.instance().await? != here.instance().await?;
    // A standby gives no mark.
    Ok((is_clone && there.fence().await.is_ok()).then_some(there))
}

/// A source with protected tables, and what the file says of it.
struct Look<'a> {
    source: &'a SourceConfig,
    here: &'a Arc<dyn Source>,
    there: There,
    resolved: &'a [Resolved<'a>],
    keys: HashMap<KeyId, KeyName>,
    columns: Vec<Protected>,
}

impl Look<'_> {
    /// Whether a table was replaced by another one, and nothing is left in the old one.
    async fn is_another(&self, table: &[&Protected]) -> Result<bool, OperationError> {
        let stored = &table[0].table;
        match &self.there {
            There::Here => self.is_another_here(table).await,
            There::Elsewhere(there) => {
                let renamed = renamed(&**there, stored).await?;
                let relation = renamed.unwrap_or_else(|| stored.relation.clone());
                self.refuse_what_is_left(&**there, table, &relation).await?;
                Ok(true)
            }
            There::Unknown(why) => Err(self.refused(
                table,
                &format!(
                    "it was at {}, which may be another database: {why}. If the one that is said now holds the same values: rekey sources accept {}",
                    table[0].source.url, table[0].source.name
                ),
            )),
        }
    }

    async fn is_another_here(&self, table: &[&Protected]) -> Result<bool, OperationError> {
        let stored = &table[0].table;
        // What the file says nothing of stays where it is.
        let mut resolved = self.resolved.iter();
        let Some(wanted) = resolved.find(|one| one.is_at(table[0])) else {
            return Ok(false);
        };
        if let Some(oid) = stored.oid {
            if wanted.shape.oid == Some(oid) {
                self.refuse_another_column(table, &wanted.shape).await?;
                return Ok(false);
            }
            if let Some(name) = self.here.name_of(oid).await? {
                if self.became_part(table, &name, &wanted.shape).await? {
                    return Ok(false);
                }
                self.refuse_renamed_there(table).await?;
                self.refuse_what_is_left(&**self.here, table, &name).await?;
                return Ok(true);
            }
        }
        if stored.relation == wanted.table.relation {
            self.refuse_another_column(table, &wanted.shape).await?;
            return Ok(false);
        }
        match self.here.describe(&stored.relation).await {
            Ok(old) if old.is_of_the_same_table(&wanted.shape) => {
                self.refuse_another_column(table, &wanted.shape).await?;
                Ok(false)
            }
            Ok(_) => {
                let relation = &stored.relation;
                self.refuse_what_is_left(&**self.here, table, relation)
                    .await?;
                // On SQLite the old table may have been renamed, and this one may have its name now.
                if wanted.shape.oid.is_none() {
                    self.refuse_others_like_it(table, &wanted.shape).await?;
                }
                Ok(true)
            }
            Err(SourceError::NoSuchTable { .. }) if wanted.shape.oid.is_none() => {
                self.refuse_others_like_it(table, &wanted.shape).await?;
                Ok(false)
            }
            Err(error) => Err(self.not_counted(table, &error)),
        }
    }

    /// Whether the old table is now a part of the new one, with the same column names: then no row is left behind.
    async fn became_part(
        &self,
        table: &[&Protected],
        name: &str,
        now: &TableShape,
    ) -> Result<bool, OperationError> {
        let Ok(was) = self.here.describe(name).await else {
            return Ok(false);
        };
        if !was.heaps.iter().all(|heap| now.heaps.contains(heap)) {
            return Ok(false);
        }
        let is_as_it_was = |column: &&&Protected| {
            let known = column.identity.as_ref();
            known
                .is_some_and(|known| was.identity(&column.spec.name.column).as_ref() == Some(known))
        };
        Ok(table.iter().filter(is_as_it_was).count() == table.len())
    }

    /// Refuses a column that took the name of a protected one while that still holds ciphertext.
    async fn refuse_another_column(
        &self,
        table: &[&Protected],
        shape: &TableShape,
    ) -> Result<(), OperationError> {
        for column in table {
            let name = &column.spec.name.column;
            let Some(known) = &column.identity else {
                continue;
            };
            // One that is not there any more was renamed or dropped, which is looked at elsewhere.
            if shape.identity(name).is_none_or(|now| now == *known) {
                continue;
            }
            let left = self.left_of(column, known).await?;
            if !left.is_empty() {
                let what = format!(
                    "{name} is not known to be the column that was protected, and {} holds ciphertext, or cannot be looked at by this role (grant it SELECT for once); if it was renamed: rekey columns rename {} NEW; if two tables exchanged their names: exchange their relations in rekey.toml",
                    left.join(", "),
                    column.spec.name
                );
                return Err(self.refused(table, &what));
            }
        }
        Ok(())
    }

    /// Refuses a new table while a protected column of the old one was renamed there and still holds ciphertext.
    async fn refuse_renamed_there(&self, table: &[&Protected]) -> Result<(), OperationError> {
        for column in table {
            let Some(known) = &column.identity else {
                continue;
            };
            let Some((relation, name)) = self.here.column_of(known).await? else {
                continue;
            };
            if name == column.spec.name.column || self.left_of(column, known).await?.is_empty() {
                continue;
            }
            let what = format!(
                "{} was {relation}.{name}, which holds ciphertext that no rotation would move any more",
                column.spec.name
            );
            return Err(self.refused(table, &what));
        }
        Ok(())
    }

    /// Columns with ciphertext of the column's keyring that are neither protected nor in the file.
    async fn left_beside(&self, column: &Protected) -> Result<Vec<String>, SourceError> {
        let its = self.resolved.iter();
        let its = its.filter(|one| one.source.name == column.source.name);
        let soon = its.map(|one| (&one.column.keyring, &*one.shape, one.column.name.as_str()));
        let (here, soon) = (&**self.here, soon.collect::<Vec<_>>());
        strays::of_ours(here, &[column], &self.columns, &soon, &self.keys).await
    }

    /// The column of this identity, if it holds ciphertext. If the database knows no such column, any other that does.
    async fn left_of(
        &self,
        column: &Protected,
        known: &str,
    ) -> Result<Vec<String>, OperationError> {
        let Some((relation, name)) = self.here.column_of(known).await? else {
            return Ok(self.left_beside(column).await?);
        };
        let mut old = column.clone();
        old.spec.name.column = name.clone();
        let counted = counted(&**self.here, &relation, &old, None).await?;
        let place = format!("{relation}.{name}");
        Ok((ciphertext(&counted) > 0)
            .then_some(place)
            .into_iter()
            .collect())
    }

    /// Refuses while a census finds ciphertext in a column of the old table.
    async fn refuse_what_is_left(
        &self,
        source: &dyn Source,
        table: &[&Protected],
        relation: &str,
    ) -> Result<(), OperationError> {
        for column in table {
            let counted = counted(source, relation, column, None).await;
            let counted = counted.map_err(|error| self.not_counted(table, &error))?;
            let left = ciphertext(&counted);
            if left > 0 {
                let name = &column.spec.name.column;
                let what = format!(
                    "{relation} has {left} value(s) of ciphertext in {name}, which no rotation would move any more"
                );
                return Err(self.refused(table, &what));
            }
        }
        Ok(())
    }

    /// SQLite knows tables only by name. One that is gone was renamed or dropped; it became this one only if no other
    /// table in the file could be it.
    async fn refuse_others_like_it(
        &self,
        table: &[&Protected],
        this: &TableShape,
    ) -> Result<(), OperationError> {
        let resolved = self
            .resolved
            .iter()
            .filter(|one| one.source.name == self.source.name);
        let mut declared: Vec<&String> = resolved.flat_map(|one| &one.shape.heaps).collect();
        declared.extend(&this.heaps);
        for other in self.here.candidates().await? {
            let relation = &other.relation;
            let name = relation.strip_prefix("main.").unwrap_or(relation);
            if declared.iter().any(|heap| heap.eq_ignore_ascii_case(name)) {
                continue;
            }
            let sample = self.here.sample(relation, &other.columns, u32::MAX).await?;
            let ours = |(found, _): &(Found, u64)| match found {
                Found::Key(id) => self.keys.contains_key(id),
                Found::NotCiphertext | Found::Empty => false,
                // It may be one of ours.
                Found::Unreadable => true,
            };
            if !sample.whole || sample.counts.iter().flatten().any(ours) {
                let what = format!(
                    "{} is gone or another one, and {} holds ciphertext of ours too, or values that cannot be read: it cannot be told which of them it is now",
                    table[0].table.relation, relation
                );
                return Err(self.refused(table, &what));
            }
        }
        Ok(())
    }

    fn not_counted(&self, table: &[&Protected], error: &SourceError) -> OperationError {
        self.refused(
            table,
            &format!("what was protected was not counted: {error}"),
        )
    }

    fn refused(&self, table: &[&Protected], what: &str) -> OperationError {
        let (name, column) = (table_subject(table[0]), &table[0].spec.name);
        let (changed, same) = match self.there {
            There::Here => ("relation", "that names the table it was"),
            _ if table[0].source.url.starts_with("sqlite") => ("url", "that names the file it was"),
            There::Elsewhere(_) | There::Unknown(_) => (
                "url",
                "and rekey apply, which notes what its database is known by (where our role has EXECUTE on pg_catalog.pg_control_system): then another host name of it is followed",
            ),
        };
        OperationError::Refused(format!(
            "{name} would be another table: {what}. Say the {changed} {same}; or, with the old {changed}, leave behind what is lost or empty there, column by column: rekey columns release {column}, with --gone where it was dropped"
        ))
    }
}
