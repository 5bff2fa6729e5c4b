//! `[[source]]`: a database, its tables and their protected columns.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use config::ValueKind;
use rekey_domain::{Bind, KeyringName, Limits, OnUpdate, Triggers, Window, WindowError};

use super::{SecretUrl, section::Section};

/// A source as the file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: SecretUrl,
    /// What it puts up with.
    pub limits: Limits,
    /// Its tables.
    pub tables: Vec<TableConfig>,
}

/// A table with protected columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name here, the middle of `source.table.column`.
    pub name: String,
    /// Its name in its database; the same where nothing else is said.
    pub relation: String,
    /// What was said of the effects that our updates have beyond its rows.
    pub on_update: OnUpdate,
    /// Its protected columns.
    pub columns: Vec<ColumnConfig>,
}

/// A protected column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnConfig {
    /// Its name in its table.
    pub name: String,
    /// Its keyring.
    pub keyring: KeyringName,
    /// What its values are bound to.
    pub bind: Bind,
    /// The stable string in associated data; where nothing is said, made of the names.
    pub column_id: Option<String>,
}

pub(super) fn read(mut section: Section<'_>) -> Option<SourceConfig> {
    let name = read_name(&mut section, "\"clinic\"");
    let given = section.has("url") || section.has("url_file");
    let url = section.source_url();
    if !given {
        section.wrong(
            "url",
            "is missing; expected url = \"postgres://user@host/clinic\" or \"sqlite:///var/lib/clinic.db\", or url_file with it",
        );
    }
    if section
        .duration("backup_retention", Duration::ZERO)
        .is_some()
    {
        section.ignore(
            "backup_retention",
            "has no effect yet: no key is ever destroyed",
        );
    }
    let kind = Kind::of(url.as_ref().map(SecretUrl::expose_url));
    let known = url.as_ref().map(|_| kind);
    let limits = read_limits(section.section("limits"), known);
    let declared = section.has("table");
    let tables: Vec<_> = section
        .sections("table")
        .into_iter()
        .map(|table| read_table(table, kind))
        .collect();
    if !declared {
        section.wrong(
            "table",
            "is missing; expected one [[source.table]] at least",
        );
    }
    section.end();
    Some(SourceConfig {
        name: name?,
        url: url.unwrap_or_else(|| String::new().into()),
        limits,
        tables: tables.into_iter().flatten().collect(),
    })
}

/// The kinds of databases, as far as the configuration has to tell them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// By the URL; one that nobody can read was reported already.
    fn of(url: Option<&str>) -> Self {
        match url.and_then(|url| url.split_once(':')) {
            Some(("postgres" | "postgresql", _)) => Self::Postgres,
            _ => Self::Sqlite,
        }
    }
}

/// Names stand between dots in `source.table.column`.
fn read_name(section: &mut Section<'_>, example: &str) -> Option<String> {
    let name = section.required("name", example)?;
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 63 && name.chars().all(safe) {
        return Some(name);
    }
    section.wrong(
        "name",
        format!("expected 1 to 63 letters, digits, '_' and '-', found {name:?}"),
    );
    None
}

/// Sessions of a process at a source.
const CONNECTIONS: RangeInclusive<u64> = 1..=100;

/// Limits that only PostgreSQL can measure are refused for SQLite, as nothing would ever wait for them.
fn read_limits(mut section: Section<'_>, kind: Option<Kind>) -> Limits {
    let rows = section.whole("rows_per_second", 0..=u32::MAX.into());
    let limits = Limits {
        rows_per_second: rows
            .and_then(|rows| u32::try_from(rows).ok())
            .and_then(NonZeroU32::new),
        max_replica_lag: section.duration("max_replica_lag", Duration::ZERO),
        max_dead_tuples: section.whole("max_dead_tuples", 0..=u64::MAX >> 1),
        window: read_window(&mut section),
        connections: section
            .whole("connections", CONNECTIONS)
            .and_then(|number| u32::try_from(number).ok())
            .and_then(NonZeroU32::new),
        urgent: section.parsed("urgent", str::parse).unwrap_or_default(),
    };
    if kind == Some(Kind::Sqlite) {
        let expected = "leave it out; rows_per_second and window are there for SQLite too";
        if limits.max_replica_lag.is_some() {
            let why = format!("SQLite has no replicas that could lag; {expected}");
            section.wrong("max_replica_lag", why);
        }
        if limits.max_dead_tuples.is_some() {
            let why = format!("SQLite leaves no dead tuples; {expected}");
            section.wrong("max_dead_tuples", why);
        }
        if limits.connections.is_some() {
            section.wrong("connections", format!("SQLite is a file; {expected}"));
        }
    }
    section.end();
    limits
}

/// Nothing between the quotes is no window.
fn read_window(section: &mut Section<'_>) -> Option<Window> {
    section
        .parsed(
            "window",
            |text: &str| -> Result<Option<Window>, WindowError> {
                let said = (!text.trim().is_empty()).then(|| text.parse());
                said.transpose()
            },
        )
        .flatten()
}

fn read_table(mut section: Section<'_>, kind: Kind) -> Option<TableConfig> {
    let name = read_name(&mut section, "\"patients\"");
    let relation = section.text("relation");
    if relation.as_ref().is_some_and(String::is_empty) {
        section.wrong(
            "relation",
            "is empty; expected the table's name in its database",
        );
    }
    let on_update = read_on_update(section.section("on_update"), kind);
    let columns = section.section("columns").named_sections();
    if columns.is_empty() {
        section.wrong("columns", "no column is named; expected columns = { ssn = { keyring = \"phi\", bind = \"row\" } }");
    }
    let columns: Vec<_> = columns
        .into_iter()
        .map(|(key, column)| read_column(key, column))
        .collect();
    section.end();
    let (name, columns) = (name?, columns.into_iter().flatten().collect());
    Some(TableConfig {
        relation: relation.unwrap_or_else(|| name.clone()),
        name,
        on_update,
        columns,
    })
}

fn read_on_update(mut section: Section<'_>, kind: Kind) -> OnUpdate {
    let triggers = section.parsed("triggers", str::parse);
    if triggers == Some(Triggers::Suppress) && kind == Kind::Sqlite {
        section.wrong(
            "triggers",
            "SQLite cannot suppress triggers; expected \"fire\"",
        );
    }
    let publications = section.text("publications");
    match publications.as_deref() {
        Some("accept") if kind == Kind::Sqlite => {
            section.ignore("publications", "has no effect: SQLite has no publications")
        }
        None | Some("accept") => {}
        Some(found) => section.wrong(
            "publications",
            format!("expected \"accept\", found {found:?}"),
        ),
    }
    section.end();
    OnUpdate {
        triggers,
        publications_accepted: publications.as_deref() == Some("accept"),
    }
}

fn read_column(name: String, mut section: Section<'_>) -> Option<ColumnConfig> {
    if name.is_empty() {
        section.wrong("", "expected a column's name, found an empty one");
    }
    let keyring = section.required("keyring", "\"phi\"").and_then(|keyring| {
        keyring
            .parse()
            .map_err(|error: rekey_domain::NameError| section.wrong("keyring", error.to_string()))
            .ok()
    });
    let bind = read_bind(&mut section);
    let column_id = section.text("id");
    if column_id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > 200 || id.chars().any(char::is_control))
    {
        section.wrong(
            "id",
            "expected 1 to 200 characters, none of them a control character",
        );
    }
    section.end();
    Some(ColumnConfig {
        name,
        keyring: keyring?,
        bind: bind?,
        column_id,
    })
}

fn read_bind(section: &mut Section<'_>) -> Option<Bind> {
    let found = section.take("bind");
    let is_missing = found.is_none();
    let bind = match found {
        Some(ValueKind::String(word)) if word == "row" => Some(Bind::Row),
        Some(ValueKind::String(word)) if word == "column" => Some(Bind::Column),
        Some(ValueKind::Array(items)) => items
            .into_iter()
            .map(|item| match item.kind {
                ValueKind::String(name) if !name.is_empty() => Some(name),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .filter(|names| !names.is_empty())
            .map(Bind::Columns),
        _ => None,
    };
    if bind.is_none() {
        let problem = if is_missing {
            "is missing and has no default, as it is for ever"
        } else {
            "is none of these"
        };
        section.wrong(
            "bind",
            format!("{problem}; expected \"row\", \"column\" or a list of immutable columns"),
        );
    }
    bind
}
