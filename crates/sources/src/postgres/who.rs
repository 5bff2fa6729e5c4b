//! Whose a transaction is, in words by which people find it.

use sqlx::{Row, postgres::PgRow};

/// What is known of the session of lock `l`, for [`name`]: its first five columns. Not the name that an application
/// gives itself, which may be anything.
pub(super) const OF_A_LOCK: &str = "l.pid, p.gid, coalesce(a.usename, p.owner)::pg_catalog.text, \
    coalesce(a.datname, p.database)::pg_catalog.text, \
    pg_catalog.to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')";

/// A process, or a prepared transaction, with what our role may know of it.
pub(super) fn name(row: &PgRow) -> Result<String, sqlx::Error> {
    let text = |at: usize| row.try_get::<Option<String>, _>(at);
    let (pid, gid) = (row.try_get::<Option<i32>, _>(0)?, text(1)?);
    let mut name = match (pid, gid) {
        (Some(pid), _) => format!("process {pid}"),
        (None, Some(gid)) => format!("prepared transaction {gid:?}"),
        (None, None) => "a prepared transaction".to_owned(),
    };
    let about = [("of", text(2)?), ("in", text(3)?), ("since", text(4)?)];
    for (word, what) in about {
        if let Some(what) = what.filter(|what| !what.is_empty()) {
            name.push_str(&format!(" {word} {what:?}"));
        }
    }
    Ok(name)
}
