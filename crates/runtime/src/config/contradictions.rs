//! Contradictions that no single key shows: names that exist twice, or not at all.

use std::collections::HashMap;

use rekey_domain::{Bind, id_part};

use super::{KeyringConfig, SourceConfig, TableConfig, keyring::is_ours, problems::Problems};

/// The source that is the store itself.
const STORE: &str = "rekey";
const STORE_PREFIX: &str = "rekey.";

/// Looks at everything that could be read, each with the place it was read from.
pub(super) fn check(
    keyrings: &[(String, KeyringConfig)],
    sources: &[(String, SourceConfig)],
    problems: &Problems,
) {
    let keyring_names = keyrings
        .iter()
        .map(|(place, keyring)| (format!("{place}.name"), keyring.name.to_string()));
    twice(keyring_names, "a keyring has this name", problems);
    let source_names = sources
        .iter()
        .map(|(place, source)| (format!("{place}.name"), source.name.to_lowercase()));
    twice(source_names, "a source has this name", problems);
    let urls = sources
        .iter()
        .filter(|(_, source)| !source.url.expose_url().is_empty())
        .map(|(place, source)| (format!("{place}.url"), source.url.expose_url().to_owned()));
    twice(
        urls,
        "a source is this database; put its tables there",
        problems,
    );
    let ids = sources
        .iter()
        .flat_map(|(place, source)| column_ids(place, source));
    twice(
        ids,
        "a column has this id, and ids tell columns apart",
        problems,
    );
    for (place, source) in sources {
        if source.name.eq_ignore_ascii_case(STORE) {
            problems.add(
                format!("{place}.name"),
                format!("{STORE} is the store itself; use another name"),
            );
        }
        check_tables(place, source, problems);
        for (at, table) in tables(place, source) {
            check_columns(&at, (source, table), keyrings, problems);
        }
    }
}

fn tables<'a>(
    place: &'a str,
    source: &'a SourceConfig,
) -> impl Iterator<Item = (String, &'a TableConfig)> {
    source
        .tables
        .iter()
        .enumerate()
        .map(move |(index, table)| (format!("{place}.table[{index}]"), table))
}

/// Reports each value that came before, and where; never shows the value.
fn twice(values: impl Iterator<Item = (String, String)>, what: &str, problems: &Problems) {
    let mut seen: HashMap<String, String> = HashMap::new();
    for (place, value) in values {
        match seen.get(&value) {
            Some(first) => problems.add(place, format!("already {what}: {first}")),
            None => drop(seen.insert(value, place)),
        }
    }
}

fn check_tables(place: &str, source: &SourceConfig, problems: &Problems) {
    let names = tables(place, source)
        .map(|(place, table)| (format!("{place}.name"), table.name.to_lowercase()));
    twice(names, "a table of this source has this name", problems);
    let relations = tables(place, source)
        .map(|(place, table)| (format!("{place}.relation"), relation_of(source, table)));
    twice(
        relations,
        "a table of this source is this one; put its columns there",
        problems,
    );
}

/// SQLite tells no capitals from small letters, and its schema is `main`.
fn relation_of(source: &SourceConfig, table: &TableConfig) -> String {
    let relation = case_of(source, &table.relation);
    if relation.contains('.') {
        relation
    } else {
        format!("main.{relation}")
    }
}

/// A name as its database tells it from others: on PostgreSQL `"Note"` is not `note`. Other names for the same thing
/// are found when the database is asked.
fn case_of(source: &SourceConfig, name: &str) -> String {
    let url = source.url.expose_url();
    if url.starts_with("postgres") {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

/// The id of each column: the one that was given, or the default `source.schema.table.column`.
fn column_ids(place: &str, source: &SourceConfig) -> Vec<(String, String)> {
    let mut ids = Vec::new();
    for (at, table) in tables(place, source) {
        let relation = if table.relation.contains('.') {
            table.relation.clone()
        } else {
            format!("main.{}", table.relation)
        };
        for column in &table.columns {
            let default = || format!("{}.{relation}.{}", source.name, id_part(&column.name));
            let id = column.column_id.clone().unwrap_or_else(default);
            ids.push((format!("{at}.columns.{}.id", column.name), id));
        }
    }
    ids
}

fn check_columns(
    place: &str,
    (source, table): (&SourceConfig, &TableConfig),
    keyrings: &[(String, KeyringConfig)],
    problems: &Problems,
) {
    let key = |column: &str, key: &str| format!("{place}.columns.{column}.{key}");
    let names = table.columns.iter().map(|column| {
        (
            format!("{place}.columns.{}", column.name),
            case_of(source, &column.name),
        )
    });
    twice(
        names,
        "a column of this table has this name, but for capitals",
        problems,
    );
    let known: Vec<_> = keyrings
        .iter()
        .map(|(_, keyring)| keyring.name.as_str())
        .filter(|name| !is_ours(name))
        .collect();
    for column in &table.columns {
        let keyring = column.keyring.as_str();
        if is_ours(keyring) {
            problems.add(
                key(&column.name, "keyring"),
                format!("keyring {keyring} is Rekey's own alone; expected another"),
            );
        } else if !known.contains(&keyring) {
            let known = if known.is_empty() {
                "none, add a [[keyring]]".to_owned()
            } else {
                known.join(", ")
            };
            problems.add(
                key(&column.name, "keyring"),
                format!("there is no keyring {keyring}; there is {known}"),
            );
        }
        if column
            .column_id
            .as_ref()
            .is_some_and(|id| id.starts_with(STORE_PREFIX))
        {
            problems.add(
                key(&column.name, "id"),
                format!("ids that begin with {STORE_PREFIX} are the store's own; expected another"),
            );
        }
        if let Bind::Columns(bound) = &column.bind {
            check_bind(&key(&column.name, "bind"), bound, (source, table), problems);
        }
    }
}

fn check_bind(
    key: &str,
    names: &[String],
    (source, table): (&SourceConfig, &TableConfig),
    problems: &Problems,
) {
    let same = |one: &str, other: &str| case_of(source, one) == case_of(source, other);
    for (index, name) in names.iter().enumerate() {
        if names[..index].iter().any(|earlier| same(earlier, name)) {
            problems.add(
                key,
                format!("{name} is named twice; expected each column once"),
            );
        }
        if table.columns.iter().any(|column| same(&column.name, name)) {
            problems.add(
                key,
                format!("{name} is a protected column, whose value changes with every rotation; expected an immutable one"),
            );
        }
    }
}
