//! CloudEvents 1.0 in structured mode: what goes over the wire and into the outbox.

use chrono::{DateTime, Utc};
use rekey_domain::Principal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Message;

/// The largest event we read or write.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
const MAX_ATTRIBUTE: usize = 255;

/// An event that cannot be read. Retrying does not help; it is dead-lettered.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Over the limit.
    #[error("an event of {found} bytes; at most {MAX_EVENT_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not JSON, or an attribute is missing or of another type.
    #[error("not a CloudEvents 1.0 JSON event (line {line}, column {column}): {what}")]
    Malformed {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
        /// What is wrong, without quoting the event.
        what: &'static str,
    },
    /// A version of CloudEvents we do not know.
    #[error("specversion is not 1.0")]
    SpecVersion,
    /// `id`, `source` or `type` is empty, too long or not printable.
    #[error("attribute {attribute}: expected 1 to {MAX_ATTRIBUTE} printable characters")]
    Attribute {
        /// Which one.
        attribute: &'static str,
    },
    /// The event is of another type than asked for.
    #[error("expected an event of type {expected}, found another")]
    Type {
        /// The type asked for.
        expected: &'static str,
    },
    /// `data` does not fit its type's schema.
    #[error("data of {type_} does not fit docs/messages/{type_}.json: {what}")]
    Data {
        /// The event's type.
        type_: &'static str,
        /// What is wrong, without quoting the event.
        what: String,
    },
}

/// One event. `id` and `source` together name it; a retry keeps both and counts `attempt` up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique within `source`.
    pub id: String,
    /// Who made it, a URI reference such as `/rekey/rotator`.
    pub source: String,
    /// The message's type.
    #[serde(rename = "type")]
    pub type_: String,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// Always `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Who asked for it. Set by our programs only; what an outsider writes here is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// How often it was tried before.
    #[serde(default)]
    pub attempt: u32,
    /// The message.
    pub data: serde_json::Value,
}

impl Event {
    /// The event that carries `message`, with a new id.
    pub fn of<M: Message>(message: &M, source: &str, time: DateTime<Utc>) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: Uuid::now_v7().to_string(),
            source: source.to_owned(),
            type_: M::TYPE.to_owned(),
            time: Some(time),
            datacontenttype: Some("application/json".to_owned()),
            traceparent: None,
            principal: None,
            attempt: 0,
            data: serde_json::to_value(message)
                .expect("messages have string keys and no failing serializer"),
        }
    }

    /// Reads an event. `data` is not looked into; see [`Event::message`].
    ///
    /// # Errors
    /// [`EventError`] says what is wrong and where, and never quotes what was sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, EventError> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLarge { found: bytes.len() });
        }
        let event: Self = serde_json::from_slice(bytes).map_err(|error| EventError::Malformed {
            line: error.line(),
            column: error.column(),
            what: describe(&error),
        })?;
        event.check()?;
        Ok(event)
    }

    fn check(&self) -> Result<(), EventError> {
        if self.specversion != "1.0" {
            return Err(EventError::SpecVersion);
        }
        for (attribute, value) in [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.type_),
        ] {
            if value.is_empty()
                || value.len() > MAX_ATTRIBUTE
                || value.chars().any(char::is_control)
            {
                return Err(EventError::Attribute { attribute });
            }
        }
        Ok(())
    }

    /// The message it carries.
    ///
    /// # Errors
    /// [`EventError::Type`] for an event of another type, [`EventError::Data`] where `data` does not
    /// fit. Unknown fields are ignored.
    pub fn message<M: Message>(&self) -> Result<M, EventError> {
        if self.type_ != M::TYPE {
            return Err(EventError::Type { expected: M::TYPE });
        }
        M::deserialize(&self.data).map_err(|error| EventError::Data {
            type_: M::TYPE,
            what: describe_data(&error),
        })
    }

    /// The same event, asked for by `principal`.
    #[must_use]
    pub fn asked_by(mut self, principal: &Principal) -> Self {
        self.principal = Some(principal.clone());
        self
    }

    /// The event as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has string keys and no failing serializer")
    }

    /// The same event, one attempt later.
    #[must_use]
    pub fn next_attempt(mut self) -> Self {
        self.attempt += 1;
        self
    }
}

fn describe(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "it ends too early",
        _ => {
            "an attribute is missing or of the wrong type; id, source, specversion, type and data are needed"
        }
    }
}

/// Says which field is missing, as its name is ours; all else that serde says may quote the event.
fn describe_data(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field `") {
        return text;
    }
    "a field has another type or form than its schema says".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rekey_domain::RotationReason;

    use super::*;
    use crate::{RotationDue, RotationRequested};

    const SMALLEST: &str = r#"{"specversion":"1.0","id":"1","source":"/siem","type":"rekey.rotation.requested.v1",
        "data":{"keyring":"phi","colour":"blue"},"unknown":{"x":1}}"#;

    #[test]
    fn an_outsiders_smallest_event_is_understood_and_unknown_fields_ignored() {
        let request: RotationRequested = Event::parse(SMALLEST.as_bytes())
            .unwrap()
            .message()
            .unwrap();
        assert_eq!(
            (request.keyring.as_str(), request.reason),
            ("phi", RotationReason::Request)
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let due = RotationDue {
            rotation: Uuid::now_v7(),
        };
        let event = Event::of(&due, "/rekey/test", DateTime::UNIX_EPOCH).next_attempt();
        let read = Event::parse(event.to_json().as_bytes()).unwrap();
        assert_eq!((&read, read.attempt), (&event, 1));
        assert_eq!(read.message::<RotationDue>().unwrap(), due);
    }

    #[test]
    fn hostile_events_are_refused_without_being_quoted() {
        let canary = "123-45-6789";
        for bad in [
            canary.to_owned(),
            format!("{{\"id\":\"{canary}\"}}"),
            SMALLEST.replace("\"1.0\"", &format!("\"{canary}\"")),
            SMALLEST.replace("/siem", ""),
            SMALLEST.replace("/siem", &canary.repeat(30)),
            SMALLEST.replace("\"1\"", &canary.repeat(8_000)),
        ] {
            let error = Event::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains(canary), "{error}");
        }
    }

    #[test]
    fn data_that_does_not_fit_is_refused() {
        let event = Event::parse(SMALLEST.replace("\"phi\"", "7").as_bytes()).unwrap();
        assert!(matches!(
            event.message::<RotationRequested>(),
            Err(EventError::Data { .. })
        ));
        assert!(matches!(
            event.message::<RotationDue>(),
            Err(EventError::Type { .. })
        ));
    }

    #[test]
    fn data_that_does_not_fit_is_not_quoted() {
        let canary = "123-45-6789";
        let data = [
            format!("\"{canary}\""),
            format!("{{\"keyring\":{{\"{canary}\":1}}}}"),
            format!("{{\"keyring\":\"no keyring: {canary}\"}}"),
            format!("{{\"keyring\":\"phi\",\"reason\":\"{canary}\"}}"),
        ];
        for one in data {
            let bad = SMALLEST.replace(r#"{"keyring":"phi","colour":"blue"}"#, &one);
            let event = Event::parse(bad.as_bytes()).unwrap();
            let error = event.message::<RotationRequested>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
        }
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        let bad = SMALLEST.replace("keyring", "keyrin");
        let event = Event::parse(bad.as_bytes()).unwrap();
        let error = event.message::<RotationRequested>().unwrap_err();
        assert!(error.to_string().contains("`keyring`"), "{error}");
    }

    #[test]
    fn who_asked_travels_with_the_event() {
        let due = RotationDue {
            rotation: Uuid::now_v7(),
        };
        let siem: Principal = "amqp:siem".parse().unwrap();
        let event = Event::of(&due, "/rekey", DateTime::UNIX_EPOCH).asked_by(&siem);
        let read = Event::parse(event.to_json().as_bytes()).unwrap();
        assert_eq!(read.principal, Some(siem));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Event::parse(&bytes);
        }
    }
}
