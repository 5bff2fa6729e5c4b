//! `[[principal]]`: who may publish requests to the message broker, and which.

use config::{Value, ValueKind};
use rekey_domain::Principal;
use rekey_messages::CATALOGUE;

use super::{problems::Problems, section::Section};

/// One `[[principal]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalConfig {
    /// What it is called here: `amqp:` and its name.
    pub principal: Principal,
    /// The broker's user, as the broker vouches for it.
    pub amqp_user: String,
    /// The types of event it may publish.
    pub may: Vec<&'static str>,
}

pub(super) fn read(mut section: Section<'_>) -> Option<PrincipalConfig> {
    let name = section.required("name", "\"siem\"");
    let principal = name.and_then(|name| {
        let read = format!("amqp:{name}").parse::<Principal>();
        let wrong = |_| section.wrong("name", "expected 1 to 200 printable characters");
        read.map_err(wrong).ok()
    });
    let amqp_user = section.required("amqp_user", "\"siem\"");
    if amqp_user.as_deref() == Some("") {
        section.wrong(
            "amqp_user",
            "is empty; expected the name of a user of RabbitMQ",
        );
    }
    let may = read_may(&mut section);
    section.end();
    Some(PrincipalConfig {
        principal: principal?,
        amqp_user: amqp_user?,
        may,
    })
}

fn read_may(section: &mut Section<'_>) -> Vec<&'static str> {
    let is_text = |item: &Value| matches!(item.kind, ValueKind::String(_));
    let items = match section.take("may") {
        Some(ValueKind::Array(items)) if items.iter().all(is_text) => items,
        _ => {
            section.wrong("may", format!("expected a list of {}", allowed()));
            return Vec::new();
        }
    };
    let mut may = Vec::new();
    for item in items {
        let request = item.to_string();
        match request_of(&request) {
            Some(type_) => may.push(type_),
            None => section.wrong("may", format!("expected {}, found {request:?}", allowed())),
        }
    }
    may
}

/// Requests by the names that people write: the type without `rekey.` and `.v1`.
fn requests() -> impl Iterator<Item = (&'static str, &'static str)> {
    let outside = CATALOGUE.iter().filter(|entry| entry.from_outside);
    outside.filter_map(|entry| {
        let short = entry.name.strip_prefix("rekey.")?.strip_suffix(".v1")?;
        Some((short, entry.name))
    })
}

fn request_of(request: &str) -> Option<&'static str> {
    requests()
        .find(|(short, _)| *short == request)
        .map(|(_, type_)| type_)
}

fn allowed() -> String {
    let quoted = |name: &str| format!("{name:?}");
    let all: Vec<_> = requests().map(|(short, _)| quoted(short)).collect();
    all.join(", ")
}

/// Each user of the broker is one principal.
pub(super) fn check(principals: &[(String, PrincipalConfig)], problems: &Problems) {
    for (index, (place, principal)) in principals.iter().enumerate() {
        let mut earlier = principals[..index].iter();
        let same = earlier.find(|(_, one)| one.amqp_user == principal.amqp_user);
        if let Some((first, _)) = same {
            let key = format!("{place}.amqp_user");
            problems.add(
                key,
                format!("already a principal has this user: {first}.amqp_user"),
            );
        }
    }
}
