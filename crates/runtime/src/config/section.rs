//! One table of the configuration, read key by key; what nobody asked for is unknown.

use std::{io::Read, ops::RangeInclusive, time::Duration};

use config::{Map, Value, ValueKind};
use rekey_domain::parse_duration;

use super::problems::Problems;

/// URLs are short; what is longer is not one.
const SECRET_FILE_LIMIT: u64 = 4_096;

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

    /// A URL of a database, given as it is or in a file.
    pub(super) fn url(&mut self) -> Option<String> {
        let both = self.has("url") && self.has("url_file");
        let (url, file) = (self.text("url"), self.text("url_file"));
        if both {
            self.wrong("url_file", "found beside url; give one of them");
            return None;
        }
        let (name, url) = match (url, file) {
            (Some(url), _) => ("url", url),
            (None, Some(file)) => ("url_file", self.read_secret("url_file", &file)?),
            (None, None) => return None,
        };
        check_url(&url, self.place.starts_with("source"))
            .map_err(|problem| self.wrong(name, problem))
            .ok()
            .map(|()| url)
    }

    fn read_secret(&self, name: &str, path: &str) -> Option<String> {
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(SECRET_FILE_LIMIT + 1).read_to_string(&mut text));
        let problem = match read {
            Err(error) => format!(
                "{path:?} cannot be read: {}; expected a file with the URL in it",
                error.kind()
            ),
            Ok(length) if length as u64 > SECRET_FILE_LIMIT => {
                format!(
                    "{path:?} has more than {SECRET_FILE_LIMIT} bytes; expected a file with only the URL in it"
                )
            }
            Ok(_) if text.trim().is_empty() => {
                format!("{path:?} is empty; expected a file with the URL in it")
            }
            Ok(_) => return Some(text.trim().to_owned()),
        };
        self.wrong(name, problem);
        None
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

fn check_url(url: &str, is_source: bool) -> Result<(), String> {
    const EXPECTED: &str = "expected such as sqlite:///var/lib/clinic.db";
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
        "sqlite" => Ok(()),
        "postgres" | "postgresql" if is_source => Ok(()),
        "postgres" | "postgresql" => Err(format!("PostgreSQL comes later; {EXPECTED}")),
        _ => Err(format!(
            "this kind of database is not supported; {EXPECTED}"
        )),
    }
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
