//! What follows the ? of a URL.

use super::{
    refused::NotADestinationUrl,
    service::{Objects, Service},
};
use crate::name::is_part;

/// Takes each parameter once.
pub(super) fn take_parameters(at: &mut Objects, query: &str) -> Result<(), NotADestinationUrl> {
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let twice = seen.contains(&name);
        seen.push(name);
        match name {
            _ if twice => return Err(unknown(at.service, name)),
            "endpoint" => at.endpoint = Some(endpoint(value)?),
            "allow-http" => at.allow_http = allowed(value)?,
            _ if name == at.service.home() => at.home = Some(home(at.service, value)?),
            _ => return Err(unknown(at.service, name)),
        }
    }
    Ok(())
}

/// Names the parameter, if it can be a name at all.
fn unknown(service: Service, name: &str) -> NotADestinationUrl {
    let is_name = name.len() <= 30
        && name
            .chars()
            .all(|c| c.is_ascii_alphabetic() || "-_".contains(c));
    let found = if is_name { name } else { "…" };
    NotADestinationUrl::Parameter {
        known: service.parameters(),
        found: found.to_owned(),
    }
}

fn allowed(value: &str) -> Result<bool, NotADestinationUrl> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(NotADestinationUrl::Value {
            name: "allow-http",
            expected: "true or false",
        }),
    }
}

fn home(service: Service, value: &str) -> Result<String, NotADestinationUrl> {
    if !value.is_empty() && is_part(value) && !value.contains('.') {
        return Ok(value.to_owned());
    }
    let expected = match service {
        Service::S3 => "a region, such as eu-west-3",
        Service::Azure => "a storage account, of lower-case letters and digits",
    };
    let name = service.home();
    Err(NotADestinationUrl::Value { name, expected })
}

/// `https://host:port/path`, and nothing that would hide something.
fn endpoint(value: &str) -> Result<String, NotADestinationUrl> {
    let value = value.strip_suffix('/').unwrap_or(value);
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    let whole = |text: &str| {
        let mut parts = text.split('/');
        text.chars().all(allowed) && parts.all(|part| !["", ".", ".."].contains(&part))
    };
    if value.contains('@') {
        return Err(NotADestinationUrl::Credentials);
    }
    if rest.is_some_and(whole) {
        return Ok(value.to_owned());
    }
    Err(NotADestinationUrl::Value {
        name: "endpoint",
        expected: "https://HOST, with a port and a path where there are any, and nothing else",
    })
}
