//! What an update of a table means beyond its row: the triggers it may fire, the foreign keys it may break.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{catalogue::Table, faults::Located, pragma};
use crate::SourceError;

/// The names of the table's triggers that are not only for INSERT or DELETE, in their order.
pub(super) async fn of_updates(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT name, sql FROM main.sqlite_schema \
               WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY name";
    let rows = sqlx::query(sql).bind(&table.name).fetch_all(connection);
    let rows = rows.await.at(&table.place)?;
    let triggers = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let triggers: Result<Vec<(String, String)>, sqlx::Error> = triggers.collect();
    let mut triggers = triggers.at(&table.place)?;
    triggers.retain(|(_, text)| is_for_updates(text));
    Ok(triggers.into_iter().map(|(name, _)| name).collect())
}

/// Columns that a foreign key ties to another table, each with what to call it: SQLite keeps no name. We
/// update with foreign keys off, so what should follow would not.
pub(super) async fn foreign_keys(
    connection: &mut SqliteConnection,
    table: &Table,
) -> Result<Vec<(String, String)>, SourceError> {
    let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table'";
    let names = sqlx::query_scalar(sql).fetch_all(&mut *connection);
    let names: Vec<String> = names.await.at(&table.place)?;
    let mut tied = Vec::new();
    for name in names {
        let keys = pragma::of(connection, "foreign_key_list", &name).await;
        for key in keys.at(&table.place)? {
            let columns = tied_by(&key, &name, table).at(&table.place)?;
            let what = |column| (column, format!("a foreign key of {name}"));
            tied.extend(columns.into_iter().map(what));
        }
    }
    tied.sort_unstable();
    tied.dedup();
    Ok(tied)
}

/// The columns of `table` that a foreign key of the table `name` ties. One that names no column of the
/// table that it points to means its primary key.
fn tied_by(key: &SqliteRow, name: &str, table: &Table) -> Result<Vec<String>, sqlx::Error> {
    let mut tied = Vec::new();
    if name == table.name {
        tied.push(key.try_get("from")?);
    }
    if key
        .try_get::<String, _>("table")?
        .eq_ignore_ascii_case(&table.name)
    {
        let named: Option<String> = key.try_get("to")?;
        let at = usize::try_from(key.try_get::<i64, _>("seq")?).unwrap_or(usize::MAX);
        tied.extend(named.or_else(|| table.shape.primary_key.get(at).cloned()));
    }
    Ok(tied)
}

/// SQLite keeps `CREATE TRIGGER name …` as it was written. The first event behind the name decides;
/// what cannot be read counts as one for updates.
fn is_for_updates(sql: &str) -> bool {
    let mut words = Words(sql).skip(3);
    let event = words.find(|word| ["INSERT", "DELETE", "UPDATE"].contains(&word.as_str()));
    event.is_none_or(|event| event == "UPDATE")
}

/// The words of a statement in upper case, a quoted name as one; comments and signs left out.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let first = self.0.chars().next()?;
            match first {
                _ if self.0.starts_with("--") => self.skip_past("\n"),
                _ if self.0.starts_with("/*") => self.skip_past("*/"),
                '"' | '\'' | '`' => return Some(self.quoted(first)),
                '[' => return Some(self.quoted(']')),
                _ if is_word(first) => return Some(self.word()),
                _ => self.0 = &self.0[first.len_utf8()..],
            }
        }
    }
}

impl Words<'_> {
    fn skip_past(&mut self, end: &str) {
        let rest = self.0.split_once(end).map(|(_, rest)| rest);
        self.0 = rest.unwrap_or_default();
    }

    /// A doubled quote is part of the name, except in brackets.
    fn quoted(&mut self, end: char) -> String {
        let mut inner = self.0.char_indices().skip(1).peekable();
        while let Some((at, c)) = inner.next() {
            let doubled = end != ']' && inner.peek().is_some_and(|(_, next)| *next == end);
            if c == end && doubled {
                inner.next();
            } else if c == end {
                self.0 = &self.0[at + end.len_utf8()..];
                return String::new();
            }
        }
        self.0 = "";
        String::new()
    }

    fn word(&mut self) -> String {
        let end = self.0.find(|c| !is_word(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word.to_ascii_uppercase()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_found_behind_any_name() {
        for sql in [
            "CREATE TRIGGER touch AFTER UPDATE ON p BEGIN SELECT 1; END",
            "CREATE TRIGGER insert_log UPDATE OF ssn ON p BEGIN INSERT INTO l VALUES (1); END",
            "CREATE TRIGGER \"on insert \"\" x\" /* DELETE */ BEFORE -- INSERT\n update ON p BEGIN SELECT 1; END",
            "CREATE TRIGGER [delete] INSTEAD OF UPDATE ON p BEGIN SELECT 1; END",
            "CREATE TRIGGER 'unreadable",
        ] {
            assert!(is_for_updates(sql), "{sql}");
        }
        for sql in [
            "CREATE TRIGGER \"update\" AFTER INSERT ON p BEGIN UPDATE p SET a = 1; END",
            "CREATE TRIGGER `update` DELETE ON p BEGIN UPDATE p SET a = 1; END",
        ] {
            assert!(!is_for_updates(sql), "{sql}");
        }
    }
}
