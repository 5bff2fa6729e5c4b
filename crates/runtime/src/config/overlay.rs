//! Where values come from: the file, and over it the environment.
//!
//! `REKEY__STORE__URL` is `store.url`; keyrings and sources are found by their names:
//! `REKEY__SOURCE__CLINIC__URL` is the URL of the source `clinic`.

use std::{collections::HashMap, ffi::OsString};

use config::{ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::problems::Problems;

/// Everything that begins so is ours.
const PREFIX: &str = "REKEY__";

/// Reads TOML. Never quotes what it found: it may hold a secret.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| match error {
            ConfigError::FileParse { cause, .. } => without_excerpt(&cause.to_string()),
            other => without_excerpt(&other.to_string()),
        })
}

/// An excerpt's lines are a line number, a bar and the text.
fn without_excerpt(error: &str) -> String {
    let is_excerpt = |line: &&str| {
        line.trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start()
            .starts_with('|')
    };
    let lines: Vec<_> = error
        .lines()
        .filter(|line| !is_excerpt(line))
        .map(str::trim)
        .collect();
    lines.join(": ")
}

/// Our part of the process's environment.
pub(super) fn environment(problems: &Problems) -> HashMap<String, String> {
    let mut ours = HashMap::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = OsString::into_string(name) else {
            continue;
        };
        if !name.starts_with(PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => drop(ours.insert(name, value)),
            Err(_) => problems.add(name, "expected UTF-8, found other bytes"),
        }
    }
    ours
}

/// Lays the environment over `values`.
pub(super) fn overlay(
    values: &mut Map<String, Value>,
    environment: HashMap<String, String>,
    problems: &Problems,
) {
    let source = Environment::with_prefix("REKEY")
        .prefix_separator("__")
        .separator("__")
        .source(Some(environment));
    let found = match source.collect() {
        Ok(found) => found,
        Err(error) => return problems.add(PREFIX, error.to_string()),
    };
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let given: Vec<_> = found.iter().map(|(key, _)| key.clone()).collect();
    for (key, value) in found {
        let path: Vec<_> = key.split('.').collect();
        if let Err(problem) = set(values, &path, value) {
            problems.add(
                format!("{PREFIX}{}", key.replace('.', "__").to_uppercase()),
                problem,
            );
            continue;
        }
        forget_other_form(values, &path, &given);
    }
}

/// A URL from the environment replaces a URL file of the configuration, and the other way round. If the environment has
/// both, they stay and are found as a contradiction.
fn forget_other_form(values: &mut Map<String, Value>, path: &[&str], given: &[String]) {
    let Some((last, before)) = path.split_last() else {
        return;
    };
    let other = match *last {
        "url" => "url_file",
        "url_file" => "url",
        _ => return,
    };
    let other_path: Vec<_> = before.iter().copied().chain([other]).collect();
    if !given.contains(&other_path.join("."))
        && let Ok(table) = table_at(values, before)
    {
        table.remove(other);
    }
}

fn set(values: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<(), String> {
    let (last, before) = path.split_last().ok_or("names no key")?;
    table_at(values, before)?.insert((*last).to_owned(), value);
    Ok(())
}

fn table_at<'a>(
    values: &'a mut Map<String, Value>,
    path: &[&str],
) -> Result<&'a mut Map<String, Value>, String> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(values);
    };
    let empty = || Value::new(None, ValueKind::Table(Map::new()));
    let inner = match *first {
        // The environment never begins a list, as an item needs a name.
        "keyring" | "source" | "table" | "principal" if !values.contains_key(*first) => {
            return Err(format!(
                "the file has no [[{first}]]; expected one that it changes"
            ));
        }
        name => values.entry(name.to_owned()).or_insert_with(empty),
    };
    match (&mut inner.kind, rest) {
        (ValueKind::Table(inner), rest) => table_at(inner, rest),
        (ValueKind::Array(items), [name, rest @ ..]) => table_at(item(items, first, name)?, rest),
        _ => Err(format!("{first} is not a table; a key of it cannot be set")),
    }
}

/// The item of a list whose name is `name`; environment variables have no small letters and no '-'.
fn item<'a>(
    items: &'a mut [Value],
    list: &str,
    name: &str,
) -> Result<&'a mut Map<String, Value>, String> {
    let mut known = Vec::new();
    let tables = items.iter_mut().filter_map(|item| match &mut item.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    });
    for table in tables {
        let Some(ValueKind::String(found)) = table.get("name").map(|value| &value.kind) else {
            continue;
        };
        if found.to_lowercase().replace('-', "_") == name.replace('-', "_") {
            return Ok(table);
        }
        known.push(found.clone());
    }
    Err(format!(
        "there is no {list} {name}; there is {}",
        known.join(", ")
    ))
}
