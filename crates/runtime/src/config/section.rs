//! One table of the configuration, read key by key; what nobody asked for is unknown.

use std::{ops::RangeInclusive, path::Path, time::Duration};

use config::{Map, Value, ValueKind};
use rekey_domain::{
    BROKER_PARAMETERS, PASSWORD_NOT_ENCODED, may_show_password, parse_duration,
    sqlite_parameter_problem,
};

use super::{SecretUrl, problems::Problems};

/// What `[broker] url` says where messages travel through the store.
const LOCAL: &str = "local";

/// A table that is being read.
pub(super) struct Section<'a> {
    place: String,
    values: Map<String, Value>,
    asked: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The table at `place`; the whole configuration is at "".
    pub(super) fn new(place: &str, values: Map<String, Value>, problems: &'a Problems) -> Self {
        let place = place.to_owned();
        Self {
            place,
            values,
            asked: Vec::new(),
            problems,
        }
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, name: &str) -> String {
        if self.place.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.place)
        }
    }

    /// Where this table is.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Something is wrong with a key.
    pub(super) fn wrong(&self, name: &str, problem: impl Into<String>) {
        self.problems.add(self.key(name), problem);
    }

    /// A key is read and has no effect yet.
    pub(super) fn ignore(&self, name: &str, why: &str) {
        self.problems.ignore(self.key(name), why);
    }

    /// Whether a key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The raw value of a key.
    pub(super) fn take(&mut self, name: &'static str) -> Option<ValueKind> {
        self.asked.push(name);
        self.values.remove(name).map(|value| value.kind)
    }

    /// Text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            ValueKind::String(text) => Some(text),
            found => {
                self.wrong(
                    name,
                    format!("expected text in quotes, found {}", kind_of(&found)),
                );
                None
            }
        }
    }

    /// Text that must be there.
    pub(super) fn required(&mut self, name: &'static str, example: &str) -> Option<String> {
        let present = self.has(name);
        let text = self.text(name);
        if !present {
            self.wrong(
                name,
                format!("is missing; expected such as {name} = {example}"),
            );
        }
        text
    }

    /// Text that `read` makes something of.
    pub(super) fn parsed<T, E: ToString>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(&text)
            .map_err(|error| self.wrong(name, error.to_string()))
            .ok()
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&mut self, name: &'static str, least: Duration) -> Option<Duration> {
        let found = self.parsed(name, parse_duration)?;
        if found >= least {
            return Some(found);
        }
        let [found, least] = [found, least].map(rekey_domain::format_duration);
        self.wrong(name, format!("expected at least {least}, found {found}"));
        None
    }

    /// A whole number in `allowed`.
    pub(super) fn whole(
        &mut self,
        name: &'static str,
        allowed: RangeInclusive<u64>,
    ) -> Option<u64> {
        let (least, most) = (allowed.start(), allowed.end());
        let expected = format!("expected a whole number from {least} to {most}");
        let found = match self.take(name)? {
            ValueKind::I64(number) => i128::from(number),
            // The environment has only text.
            ValueKind::String(text) if text.parse::<i64>().is_ok() => text.parse().ok()?,
            found => {
                self.wrong(name, format!("{expected}, found {}", kind_of(&found)));
                return None;
            }
        };
        let number = u64::try_from(found)
            .ok()
            .filter(|number| allowed.contains(number));
        if number.is_none() {
            self.wrong(name, format!("{expected}, found {found}"));
        }
        number
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            ValueKind::Boolean(flag) => Some(flag),
            // The environment has only text.
            ValueKind::String(text) if text.parse::<bool>().is_ok() => text.parse().ok(),
            found => {
                let problem = format!("expected true or false, found {}", kind_of(&found));
                self.wrong(name, problem);
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let is_text = |item: &Value| matches!(item.kind, ValueKind::String(_));
        match self.take(name)? {
            ValueKind::Array(items) if items.iter().all(is_text) => {
                Some(items.iter().map(ToString::to_string).collect())
            }
            found => {
                let problem = format!("expected a list of texts, found {}", kind_of(&found));
                self.wrong(name, problem);
                None
            }
        }
    }

    /// A table; an empty one if it is not there.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'a> {
        let values = match self.take(name) {
            None => Map::new(),
            Some(ValueKind::Table(values)) => values,
            Some(found) => {
                self.wrong(name, format!("expected a table, found {}", kind_of(&found)));
                Map::new()
            }
        };
        Section::new(&self.key(name), values, self.problems)
    }

    /// The tables of `[[name]]`.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Section<'a>> {
        let items = match self.take(name) {
            None => Vec::new(),
            Some(ValueKind::Array(items)) => items,
            Some(found) => {
                let key = self.key(name);
                self.wrong(
                    name,
                    format!("expected [[{key}]], found {}", kind_of(&found)),
                );
                Vec::new()
            }
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{}[{index}]", self.key(name));
            match item.kind {
                ValueKind::Table(values) => {
                    sections.push(Section::new(&place, values, self.problems))
                }
                found => self.problems.add(
                    place,
                    format!("expected a table, found {}", kind_of(&found)),
                ),
            }
        }
        sections
    }

    /// Every table of this one, by its key, in order.
    pub(super) fn named_sections(self) -> Vec<(String, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, value) in self.values {
            let place = format!("{}.{name}", self.place);
            match value.kind {
                ValueKind::Table(values) => {
                    sections.push((name, Section::new(&place, values, self.problems)));
                }
                found => self.problems.add(
                    place,
                    format!("expected a table, found {}", kind_of(&found)),
                ),
            }
        }
        sections.sort_by(|(one, _), (other, _)| one.cmp(other));
        sections
    }

    /// The URL of a source's database, given as it is or in a file.
    pub(super) fn source_url(&mut self) -> Option<SecretUrl> {
        self.url(|url| check_database_url(url, &["rw", "ro"]))
    }

    /// The URL of the store's database, likewise.
    pub(super) fn store_url(&mut self) -> Option<SecretUrl> {
        self.url(|url| check_database_url(url, &["rw", "rwc"]))
    }

    /// The URL of a RabbitMQ node, likewise.
    pub(super) fn broker_url(&mut self) -> Option<SecretUrl> {
        self.url(check_broker_url)
            .filter(|url| url.expose_url() != LOCAL)
    }

    fn url(&mut self, check: fn(&str) -> Result<(), String>) -> Option<SecretUrl> {
        let both = self.has("url") && self.has("url_file");
        let (url, file) = (self.text("url"), self.text("url_file"));
        if both {
            self.wrong("url_file", "found beside url; give one of them");
            return None;
        }
        let (name, url) = match (url, file) {
            (Some(url), _) => ("url", url.into()),
            (None, Some(file)) => ("url_file", self.url_in(&file)?),
            (None, None) => return None,
        };
        if may_show_password(url.expose_url()) {
            self.wrong(name, PASSWORD_NOT_ENCODED);
            return None;
        }
        check(url.expose_url())
            .map_err(|problem| self.wrong(name, problem))
            .ok()
            .map(|()| url)
    }

    fn url_in(&self, file: &str) -> Option<SecretUrl> {
        let read = SecretUrl::in_file(Path::new(file));
        read.map_err(|problem| self.wrong("url_file", problem)).ok()
    }

    /// Whatever is left is unknown.
    pub(super) fn end(self) {
        let known = self.asked.join(", ");
        let mut unknown: Vec<_> = self.values.keys().cloned().collect();
        unknown.sort();
        for name in unknown {
            let key: String = self.key(&name).chars().take(200).collect();
            self.problems.add(
                key,
                format!("there is no such key; expected one of {known}"),
            );
        }
    }
}

fn check_broker_url(url: &str) -> Result<(), String> {
    let node = url
        .strip_prefix("amqp://")
        .or_else(|| url.strip_prefix("amqps://"));
    // Nothing of it is shown: it may hold a password.
    if url == LOCAL {
        return Ok(());
    }
    if let Some(node) = node.filter(|node| !node.is_empty()) {
        return check_parameters(node, &BROKER_PARAMETERS);
    }
    Err("expected such as amqps://rekey@mq.clinic:5671/rekey, or local".to_owned())
}

/// `modes` are the ways in which a file of SQLite may be opened.
fn check_database_url(url: &str, modes: &[&str]) -> Result<(), String> {
    const EXPECTED: &str =
        "expected such as postgres://rekey@db.clinic/rekey or sqlite:///var/lib/clinic.db";
    // Nothing but the scheme is shown: the rest may hold a password.
    let (scheme, rest) = url
        .split_once(':')
        .ok_or_else(|| format!("is no URL; {EXPECTED}"))?;
    match scheme {
        "sqlite" if rest.contains(":memory:") || rest.contains("mode=memory") => Err(format!(
            "a database in memory forgets everything at the end; {EXPECTED}"
        )),
        "sqlite" if rest.trim_start_matches('/').is_empty() => {
            Err(format!("names no file; {EXPECTED}"))
        }
        "sqlite" => {
            check_parameters(rest, &SQLITE_PARAMETERS)?;
            sqlite_parameter_problem(url, modes).map_or(Ok(()), |problem| Err(problem.to_owned()))
        }
        "postgres" | "postgresql" if rest.trim_start_matches('/').is_empty() => {
            Err(format!("names no server; {EXPECTED}"))
        }
        "postgres" | "postgresql" => check_parameters(rest, &POSTGRES_PARAMETERS),
        _ => Err(format!(
            "this kind of database is not supported; {EXPECTED}"
        )),
    }
}

/// What SQLite knows behind the `?` of its URL; what of it is refused is said by name.
const SQLITE_PARAMETERS: [&str; 5] = ["mode", "cache", "immutable", "vfs", "nolock"];

/// The same of a PostgreSQL database.
const POSTGRES_PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A parameter that nobody reads is a typo: `sslmod=verify-full` would connect without a look at the
/// certificate. Its name is shown where it can be no password.
fn check_parameters(url: &str, known: &[&str]) -> Result<(), String> {
    if url.contains('#') {
        return Err("has a '#', behind which nothing is read: parameters begin with '?', and in a password it is %23".to_owned());
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
        if ["sslmode", "ssl-mode"].contains(&name) && known.contains(&name) {
            check_sslmode(parameter)?;
        }
        if known.contains(&name) || known.contains(&"options") && name.starts_with("options[") {
            continue;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let is_name = parameter.contains('=') && name.len() <= 40 && name.chars().all(plain);
        let shown = if is_name { name } else { "(not shown)" };
        return Err(format!(
            "has an unknown parameter {shown}; expected some of {}",
            known.join(", ")
        ));
    }
    Ok(())
}

/// A mode that nobody knows would end in an error that does not say which parameter it is.
fn check_sslmode(parameter: &str) -> Result<(), String> {
    let modes = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    let (name, mode) = parameter.split_once('=').unwrap_or((parameter, ""));
    if modes.contains(&mode) {
        return Ok(());
    }
    Err(format!(
        "has an unknown {name}; expected one of {}",
        modes.join(", ")
    ))
}

fn kind_of(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            "a number"
        }
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
