//! `[[destination]]`: where bundles are kept. Its name is policy, which `rekey apply` writes to the store; its URL is each
//! process's own, and credentials come from the environment.

use rekey_domain::DestinationName;

use super::{problems::Problems, section::Section};

/// One `[[destination]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationConfig {
    /// Its name.
    pub name: DestinationName,
    /// Where it is: `file:///…`, `s3://…` or `az://…`. It has no secrets.
    pub url: String,
    /// Where this stands in the configuration.
    pub place: String,
}

pub(super) fn read(mut section: Section<'_>) -> Option<DestinationConfig> {
    let name = section.required("name", "\"vault\"");
    let name = name.and_then(|name| {
        let wrong = |error| section.wrong("name", error);
        name.parse::<DestinationName>().map_err(wrong).ok()
    });
    let url = section.required("url", "\"s3://bucket/prefix\"");
    section.end();
    Some(DestinationConfig {
        name: name?,
        url: url?,
        place: String::new(),
    })
}

pub(super) fn check(destinations: &[(String, DestinationConfig)], problems: &Problems) {
    for (at, (place, one)) in destinations.iter().enumerate() {
        let before = &destinations[..at];
        if before.iter().any(|(_, other)| other.name == one.name) {
            let problem = format!("a destination has the name {} already", one.name);
            problems.add(format!("{place}.name"), problem);
        }
        if before.iter().any(|(_, other)| other.url == one.url) {
            problems.add(
                format!("{place}.url"),
                "another destination is there already",
            );
        }
    }
}
