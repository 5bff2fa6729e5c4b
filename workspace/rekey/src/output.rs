//! What is printed: tables for people, one JSON object for programs, errors on stderr.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_runtime::{config::ConfigErrors, one_line};
use serde_json::{Value, json};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables, for people.
    Table,
    /// One object, for programs.
    Json,
}

/// Prints one JSON object; `schema` names its form. What is no object becomes its `items`.
pub fn object(schema: &str, value: Value) -> io::Result<()> {
    let fields = match value {
        Value::Object(fields) => fields,
        other => [("items".to_owned(), other)].into_iter().collect(),
    };
    let mut whole = serde_json::Map::from_iter([("schema".to_owned(), json!(schema))]);
    whole.extend(fields);
    bytes(format!("{}\n", Value::Object(whole)).as_bytes())
}

/// Prints a table, its columns as wide as they need to be.
pub fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> io::Result<()> {
    bytes(format_table(head, rows).as_bytes())
}

/// Prints a line on stdout, whatever is in it.
pub fn line(text: &str) -> io::Result<()> {
    bytes(format!("{}\n", one_line(text)).as_bytes())
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no error.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says that something was done; on stderr, as it is no result.
pub fn done(text: &str) {
    note(text);
}

/// Says something on stderr, on one line.
pub fn note(text: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(io::stderr().lock(), "{}", one_line(text));
}

/// Says on stderr what went wrong, each cause once; the problems of a configuration line by line.
pub fn error(error: &anyhow::Error) {
    let text = format!("rekey: {}", causes(error));
    match error.downcast_ref::<ConfigErrors>() {
        Some(_) => text.lines().for_each(note),
        None => note(&text),
    }
}

/// What went wrong, each cause once.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors tell their cause in their own words already.
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// A time, to the second.
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A value that may not be there.
pub fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A head of empty names is none.
pub fn format_table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let head = head
        .iter()
        .any(|name| !name.is_empty())
        .then(|| head.map(str::to_owned));
    let rows: Vec<_> = head
        .into_iter()
        .chain(rows)
        .map(|row| row.map(printable))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format_row = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(format_row).collect()
}

/// Nothing that was stored may steer the terminal, or look like a line of ours.
pub fn printable(text: String) -> String {
    one_line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        let rows = vec![
            ["phi/1".to_owned(), "ACTIVE".to_owned()],
            ["a".to_owned(), "\u{1b}[31m".to_owned()],
        ];
        assert_eq!(
            format_table(["KEY", "STATE"], rows),
            "KEY    STATE\nphi/1  ACTIVE\na      \\u{1b}[31m\n"
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("disk full")
            .context("the store failed: disk full")
            .context("cannot rotate");
        assert_eq!(causes(&error), "cannot rotate: the store failed: disk full");
    }
}
