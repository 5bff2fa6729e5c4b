//! What the user's own code does to an update: the triggers and rules that fire, and what is there afterwards.

use std::collections::{HashMap, HashSet};

use rekey_domain::Triggers;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::types::Oid};

use super::{
    beside::Beside,
    faults::Located,
    own_code,
    swap::{self, RowSwap, Side},
    tuple::TupleId,
};
use crate::{OtherChange, SourceError, place::Place};

/// What fires on updates of a heap.
pub(super) struct Firing {
    /// The heap's name, as a literal.
    heap: String,
    /// How `tgenabled` and `ev_enabled` say that it fires in a session such as ours.
    enabled: &'static str,
    /// What fires, by name, and other code of the owner that runs. More may come later: [`Firing::nothing`] checks
    /// again.
    pub(super) names: Vec<String>,
    /// Numbers of all that may bring such code along.
    numbers: String,
}

impl Firing {
    /// What fires now on updates of `only`, which is `ONLY` and a name.
    pub(super) async fn find(
        connection: &mut PgConnection,
        only: &str,
        triggers: Triggers,
        place: &Place,
    ) -> Result<Self, SourceError> {
        let mut firing = Self::quiet(only, triggers);
        let sql = firing.asked(&firing.heap);
        let heap = &firing.heap;
        let names = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection);
        firing.names = names.await.at(place)?;
        let (numbers, code) = own_code::of_heap(connection, heap, place).await?;
        firing.numbers = numbers;
        firing.names.extend(code);
        Ok(firing)
    }

    /// The same of several heaps; none where something fires on one of them, or other code of the owner's runs.
    pub(super) async fn find_none(
        connection: &mut PgConnection,
        heaps: &[String],
        triggers: Triggers,
        place: &Place,
    ) -> Result<Option<Vec<Self>>, SourceError> {
        let mut all: Vec<_> = heaps
            .iter()
            .map(|only| Self::quiet(only, triggers))
            .collect();
        let Some(first) = all.first() else {
            return Ok(Some(all));
        };
        let named = all.iter().enumerate();
        let named: Vec<_> = named
            .map(|(at, one)| format!("({at}, {})", one.heap))
            .collect();
        let sql = format!(
            "SELECT h.name::pg_catalog.regclass::pg_catalog.oid, {}, ARRAY({}) \
             FROM (VALUES {}) AS h (at, name) ORDER BY h.at",
            own_code::numbers("h.name"),
            first.asked("h.name"),
            named.join(", ")
        );
        let found = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
        let found: Vec<(Oid, String, Vec<String>)> =
            found.fetch_all(&mut *connection).await.at(place)?;
        let oids: Vec<Oid> = found.iter().map(|(oid, ..)| *oid).collect();
        let fires = found.iter().any(|(_, _, names)| !names.is_empty());
        if fires || !own_code::of(connection, &oids, place).await?.is_empty() {
            return Ok(None);
        }
        for (firing, (_, numbers, _)) in all.iter_mut().zip(found) {
            firing.numbers = numbers;
        }
        Ok(Some(all))
    }

    fn quiet(only: &str, triggers: Triggers) -> Self {
        let name = only.trim_start_matches("ONLY ").replace('\'', "''");
        Self {
            heap: format!("'{name}'"),
            enabled: match triggers {
                Triggers::Suppress => AS_REPLICA,
                _ => AS_SAID,
            },
            names: Vec::new(),
            numbers: String::new(),
        }
    }

    /// A query of what fires on updates of a heap, which `heap` names.
    fn asked(&self, heap: &str) -> String {
        let enabled = self.enabled;
        format!(
            "SELECT 'trigger ' OPERATOR(pg_catalog.||) g.tgname::pg_catalog.text \
             FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass({heap})::pg_catalog.oid AND {ON_UPDATE} AND g.tgenabled {enabled} \
             UNION ALL SELECT 'rule ' OPERATOR(pg_catalog.||) g.rulename::pg_catalog.text \
             FROM pg_catalog.pg_rewrite AS g WHERE g.ev_class OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass({heap})::pg_catalog.oid \
             AND g.ev_type OPERATOR(pg_catalog.=) '2' AND g.ev_enabled {enabled} ORDER BY 1"
        )
    }

    /// A condition within the update: nothing fires on it, and no other code has come. The statement takes its snapshot
    /// after its lock, and making a trigger waits for that lock, so this sees whatever came after an earlier look.
    pub(super) fn nothing(&self) -> String {
        let (heap, enabled) = (&self.heap, self.enabled);
        let (numbers, known) = (own_code::numbers(heap), &self.numbers);
        format!(
            "{numbers} OPERATOR(pg_catalog.=) '{known}'::pg_catalog.text AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) \
             {heap}::pg_catalog.regclass::pg_catalog.oid AND {ON_UPDATE} AND g.tgenabled {enabled}) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite AS g WHERE g.ev_class OPERATOR(pg_catalog.=) \
             {heap}::pg_catalog.regclass::pg_catalog.oid \
             AND g.ev_type OPERATOR(pg_catalog.=) '2' AND g.ev_enabled {enabled})"
        )
    }

    /// What fires, for people.
    pub(super) fn by(&self) -> String {
        self.names.join(", ")
    }
}

/// By the session's replication role, which the database may set for everyone.
const AS_SAID: &str = "OPERATOR(pg_catalog.=) ANY (CASE WHEN pg_catalog.current_setting('session_replication_role') \
    OPERATOR(pg_catalog.=) 'replica' THEN '{R,A}' ELSE '{O,A}' END::pg_catalog.\"char\"[])";
const AS_REPLICA: &str = "OPERATOR(pg_catalog.=) ANY ('{R,A}'::pg_catalog.\"char\"[])";

/// Triggers made by the user, whether they fire before or after: one that fires before the update of a row may change
/// another row.
const ON_UPDATE: &str = "(g.tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid OR NOT g.tgisinternal) \
    AND (g.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 16) OPERATOR(pg_catalog.<>) 0";

/// The locked rows that still hold what was read, each with what stands beside what was read.
pub(super) async fn before<'a>(
    connection: &mut PgConnection,
    only: &str,
    locked: &[&'a RowSwap<'a>],
    beside: &Beside,
) -> Result<Vec<(&'a RowSwap<'a>, String)>, sqlx::Error> {
    let places: Vec<_> = locked.iter().map(|row| (*row, row.place)).collect();
    let mut held = swap::held(connection, only, &places, Side::Old, beside).await?;
    let held = locked
        .iter()
        .filter_map(|row| Some((*row, held.remove(&row.index)?)));
    Ok(held.collect())
}

/// What stands once all has fired.
pub(super) enum Stands<'a> {
    /// Each row holds what was written, or what it held, and beside it what it held.
    AsWritten {
        /// The rows that the update was kept from, by their index.
        withheld: HashSet<usize>,
    },
    /// This row, perhaps among others, does not: the transaction must not be committed. One that is not
    /// where the update put it was updated again, and what it holds is not known.
    Rewritten(&'a RowSwap<'a>),
    /// Something put off its work until the commit, where nobody can check it, and may do so again.
    PutOff,
}

/// Fires what waits for the end of the transaction, then looks at the rows that were to be written. [`before`] saw that
/// all of them held what was read, and we hold their locks, so nobody else changed them.
pub(super) async fn after<'a>(
    connection: &mut PgConnection,
    only: &str,
    rows: &[(&'a RowSwap<'a>, String)],
    written: &[(&'a RowSwap<'a>, TupleId)],
    beside: &Beside,
) -> Result<Stands<'a>, sqlx::Error> {
    fire(connection).await?;
    let held = swap::held(connection, only, written, Side::New, beside).await?;
    let others: Vec<_> = rows
        .iter()
        .filter(|(row, _)| !held.contains_key(&row.index))
        .map(|(row, _)| (*row, row.place))
        .collect();
    let withheld = swap::held(connection, only, &others, Side::Old, beside).await?;
    let stands = |row: &RowSwap<'_>, was: &String| {
        let now = held.get(&row.index).or_else(|| withheld.get(&row.index));
        now == Some(was)
    };
    if let Some((row, _)) = rows.iter().find(|(row, was)| !stands(row, was)) {
        return Ok(Stands::Rewritten(row));
    }
    if !is_quiet(connection).await? {
        return Ok(Stands::PutOff);
    }
    Ok(Stands::AsWritten {
        withheld: withheld.into_keys().collect(),
    })
}

/// Rows that our session changed or deleted and has not yet reported to the server, for each heap of these tables;
/// `only` names the heap that we write to. The difference between before and after an update is what the update
/// changed. Heaps are identified by number, as their names depend on the search path, which a trigger may change.
pub(super) async fn changed(
    connection: &mut PgConnection,
    tables: &[Oid],
    only: &str,
) -> Result<HashMap<Oid, Changed>, sqlx::Error> {
    let sql = "WITH RECURSIVE tree (oid) AS (SELECT t.oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t (oid) \
        UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree ON i.inhparent OPERATOR(pg_catalog.=) tree.oid) \
        SELECT tree.oid, tree.oid::pg_catalog.regclass::pg_catalog.text AS name, \
            tree.oid OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.regclass::pg_catalog.oid AS is_ours, \
            pg_catalog.pg_stat_get_xact_tuples_updated(tree.oid) \
            OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(tree.oid) AS rows, \
            pg_catalog.pg_relation_filenode(tree.oid) AS file, \
            (SELECT pg_catalog.string_agg(pg_catalog.format('%s %s %s', a.attnum, a.attname, a.atttypid), ',' \
                ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a \
                WHERE a.attrelid OPERATOR(pg_catalog.=) tree.oid) AS columns FROM tree";
    let ours = only.trim_start_matches("ONLY ");
    let changed = sqlx::query(sql).persistent(false).bind(tables).bind(ours);
    let changed = changed.fetch_all(connection).await?;
    let changed = changed.iter().map(|heap| {
        let change = Changed {
            name: heap.try_get("name")?,
            is_ours: heap.try_get("is_ours")?,
            rows: heap.try_get::<Option<_>, _>("rows")?.unwrap_or_default(),
            file: heap.try_get("file")?,
            columns: heap.try_get("columns")?,
        };
        Ok((heap.try_get("oid")?, change))
    });
    changed.collect()
}

/// What was changed in a heap so far. Truncating a heap gives it another file and counts no rows, and so does dropping a
/// column, which keeps the file and gives the column another name.
pub(super) struct Changed {
    /// For people.
    name: String,
    is_ours: bool,
    rows: i64,
    file: Option<Oid>,
    columns: Option<String>,
}

/// A heap in which more was changed than the `written` rows of ours, and what. A heap that was not there before
/// had no changed rows; one that is not there any more has lost them.
pub(super) fn others(
    before: &HashMap<Oid, Changed>,
    after: HashMap<Oid, Changed>,
    written: usize,
) -> Option<(String, OtherChange)> {
    let gone = before.iter().filter(|(heap, _)| !after.contains_key(heap));
    if let Some((_, gone)) = gone.min_by_key(|(_, gone)| &gone.name) {
        return Some((gone.name.clone(), OtherChange::Dropped));
    }
    let more = after.into_iter().filter_map(|(heap, now)| {
        let was = before.get(&heap);
        let by_us = if now.is_ours { written as u64 } else { 0 };
        let rows = now.rows - was.map_or(0, |was| was.rows);
        let more = u64::try_from(rows)
            .unwrap_or_default()
            .saturating_sub(by_us);
        if let Some(was) = was.filter(|was| was.columns.is_some() && now.columns.is_none()) {
            return Some((was.name.clone(), OtherChange::Dropped));
        }
        let emptied = was.is_some_and(|was| (was.file, &was.columns) != (now.file, &now.columns));
        match (emptied, more) {
            (true, _) => Some((now.name, OtherChange::Emptied)),
            (false, 0) => None,
            (false, more) => Some((now.name, OtherChange::Rows(more))),
        }
    });
    more.min()
}

async fn fire(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let at_once = sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE");
    at_once.execute(connection).await.map(drop)
}

/// Whether nothing waits for the commit. What waited has fired once. To put something off again it must write a row
/// somewhere, so if firing again writes no row, nothing waits.
async fn is_quiet(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let before = rows_written(connection).await?;
    fire(connection).await?;
    let after = rows_written(connection).await?;
    Ok(before.is_some() && before == after)
}

/// Rows that our transaction has written, in whichever table; none where the server does not count.
async fn rows_written(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let sql = "SELECT CASE WHEN pg_catalog.current_setting('track_counts') OPERATOR(pg_catalog.=) 'on' THEN \
        coalesce(pg_catalog.sum(x.n_tup_ins OPERATOR(pg_catalog.+) x.n_tup_upd \
            OPERATOR(pg_catalog.+) x.n_tup_del), 0)::pg_catalog.int8 END \
        FROM pg_catalog.pg_stat_xact_all_tables AS x";
    let written = sqlx::query_scalar(sql).persistent(false);
    written.fetch_one(connection).await
}
