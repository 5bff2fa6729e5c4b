//! What the user's own code makes of an update: triggers and rules that fire on it, and what stands once they have.

use std::collections::HashSet;

use rekey_domain::Triggers;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    faults::Located,
    swap::{self, RowSwap, Side},
    tuple::TupleId,
};
use crate::{SourceError, place::Place};

/// What fires on updates of a heap.
pub(super) struct Firing {
    /// The heap's name, as a literal.
    heap: String,
    /// How `tgenabled` and `ev_enabled` say that it fires in a session such as ours.
    enabled: &'static str,
    /// What fires, by name. Something may have come since: [`Firing::nothing`] asks again.
    pub(super) names: Vec<String>,
}

impl Firing {
    /// What fires now on updates of `only`, which is `ONLY` and a name.
    pub(super) async fn find(
        connection: &mut PgConnection,
        only: &str,
        triggers: Triggers,
        place: &Place,
    ) -> Result<Self, SourceError> {
        let name = only.trim_start_matches("ONLY ").replace('\'', "''");
        let mut firing = Self {
            heap: format!("'{name}'"),
            enabled: match triggers {
                Triggers::Suppress => "OPERATOR(pg_catalog.=) ANY ('{R,A}'::pg_catalog.\"char\"[])",
                _ => "OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[])",
            },
            names: Vec::new(),
        };
        let (heap, enabled) = (&firing.heap, firing.enabled);
        let sql = format!(
            "SELECT 'trigger ' OPERATOR(pg_catalog.||) g.tgname::pg_catalog.text \
             FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass({heap})::pg_catalog.oid AND {ON_UPDATE} AND g.tgenabled {enabled} \
             UNION ALL SELECT 'rule ' OPERATOR(pg_catalog.||) g.rulename::pg_catalog.text \
             FROM pg_catalog.pg_rewrite AS g WHERE g.ev_class OPERATOR(pg_catalog.=) \
             pg_catalog.to_regclass({heap})::pg_catalog.oid \
             AND g.ev_type OPERATOR(pg_catalog.=) '2' AND g.ev_enabled {enabled} ORDER BY 1"
        );
        let names = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection);
        firing.names = names.await.at(place)?;
        Ok(firing)
    }

    /// A condition of the update's own: nothing fires on it. The statement's snapshot is taken behind its
    /// lock, which nobody gets past who makes a trigger; so what comes after a look is met here.
    pub(super) fn nothing(&self) -> String {
        let (heap, enabled) = (&self.heap, self.enabled);
        format!(
            "NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) \
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

/// Of the user's making, whenever it fires: a trigger before the update of one row may change another.
const ON_UPDATE: &str = "(g.tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid OR NOT g.tgisinternal) \
    AND (g.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 16) OPERATOR(pg_catalog.<>) 0";

/// Of rows that we have locked, those that hold what was read, each with its place.
pub(super) async fn before<'a>(
    connection: &mut PgConnection,
    only: &str,
    locked: &[&'a RowSwap<'a>],
) -> Result<Vec<&'a RowSwap<'a>>, sqlx::Error> {
    let places: Vec<_> = locked.iter().map(|row| (*row, row.place)).collect();
    let held = swap::held(connection, only, &places, Side::Old).await?;
    let held = locked.iter().filter(|row| held.contains(&row.index));
    Ok(held.copied().collect())
}

/// What stands once all has fired.
pub(super) enum Stands<'a> {
    /// Each row holds what was written, or what it held.
    AsWritten {
        /// The rows that the update was kept from, by their index.
        withheld: HashSet<usize>,
    },
    /// This row, perhaps among others, does not: the transaction must not be committed. One that is not
    /// where the update put it was updated again, and what it holds is not known.
    Rewritten(&'a RowSwap<'a>),
}

/// Fires what waits for the end of the transaction, then looks at the rows that were to be written. All of
/// them held what was read [`before`], under our lock: nobody else changed them.
pub(super) async fn after<'a>(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&'a RowSwap<'a>],
    written: &[(&'a RowSwap<'a>, TupleId)],
) -> Result<Stands<'a>, sqlx::Error> {
    let at_once = sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE");
    at_once.execute(&mut *connection).await?;
    let held = swap::held(connection, only, written, Side::New).await?;
    let others = rows.iter().filter(|row| !held.contains(&row.index));
    let others: Vec<_> = others.map(|row| (*row, row.place)).collect();
    let withheld = swap::held(connection, only, &others, Side::Old).await?;
    let rewritten = others
        .iter()
        .find(|(row, _)| !withheld.contains(&row.index));
    Ok(match rewritten {
        Some((row, _)) => Stands::Rewritten(row),
        None => Stands::AsWritten { withheld },
    })
}
