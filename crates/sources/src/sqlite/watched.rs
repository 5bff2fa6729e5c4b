//! What is changed on a connection while our updates and what they set off run, as far as SQLite tells.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{SqliteConnection, sqlite::SqliteOperation};

use crate::{RowKey, RowUpdate};

/// Changes of rows, by whatever: operation, table and rowid. Not told are rows that `REPLACE` deletes, rows that a
/// `DELETE` without a condition does, and those of tables without rowids.
pub(super) struct Watched {
    seen: Vec<(SqliteOperation, String, i64)>,
    /// What the connection itself counted, those of `REPLACE` aside.
    counted: i64,
}

/// A watch that has begun.
pub(super) struct Watching {
    seen: Arc<Mutex<Vec<(SqliteOperation, String, i64)>>>,
    counted_before: i64,
}

impl Watching {
    /// From now on.
    pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let counted_before = total_changes(connection).await?;
        let watching = Self {
            seen: Arc::default(),
            counted_before,
        };
        // A weak reference: if the watcher is dropped and this hook stays, it keeps nothing.
        let seen = Arc::downgrade(&watching.seen);
        let mut handle = connection.lock_handle().await?;
        handle.set_update_hook(move |change| {
            if let Some(seen) = seen.upgrade() {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((change.operation, change.table.to_owned(), change.rowid));
            }
        });
        Ok(watching)
    }

    /// No more.
    pub(super) async fn end(self, connection: &mut SqliteConnection) -> sqlx::Result<Watched> {
        connection.lock_handle().await?.remove_update_hook();
        let counted = total_changes(connection).await? - self.counted_before;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = std::mem::take(&mut *seen);
        Ok(Watched { seen, counted })
    }
}

async fn total_changes(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let changes = sqlx::query_scalar("SELECT total_changes()");
    changes.fetch_one(connection).await
}

impl Watched {
    /// Whether each change that the connection counted was told.
    pub(super) fn is_told_all(&self) -> bool {
        i64::try_from(self.seen.len()) == Ok(self.counted)
    }

    /// The tables that a row was inserted into, or that had one replaced.
    pub(super) fn inserted(&self) -> impl Iterator<Item = &str> {
        let inserts = self.seen.iter();
        let inserts = inserts.filter(|(operation, ..)| *operation == SqliteOperation::Insert);
        inserts.map(|(_, table, _)| table.as_str())
    }

    /// By how many rows a table grew, by what was told.
    pub(super) fn growth(&self, table: &str) -> i64 {
        let of_table = self.seen.iter();
        let of_table = of_table.filter(|(_, name, _)| name.eq_ignore_ascii_case(table));
        let grows = of_table.map(|(operation, ..)| match operation {
            SqliteOperation::Insert => 1,
            SqliteOperation::Delete => -1,
            _ => 0,
        });
        grows.sum()
    }

    /// A table with protected columns of which other rows than `ours` were changed, and how many.
    pub(super) fn others(
        &self,
        table: &str,
        ours: &[RowUpdate],
        protected: &[String],
    ) -> Option<(String, u64)> {
        let is_ours = |rowid: i64| ours.iter().any(|one| one.key == RowKey::RowId(rowid));
        let is_protected = |name: &str| protected.iter().any(|one| one.eq_ignore_ascii_case(name));
        let others: Vec<_> = self
            .seen
            .iter()
            .filter(|(operation, ..)| *operation != SqliteOperation::Insert)
            .filter(|(_, name, rowid)| match name.eq_ignore_ascii_case(table) {
                true => !is_ours(*rowid),
                false => is_protected(name),
            })
            .map(|(_, name, _)| name)
            .collect();
        let first = others.first()?;
        let rows = others.iter().filter(|name| name == &first).count();
        Some(((*first).clone(), rows as u64))
    }
}
