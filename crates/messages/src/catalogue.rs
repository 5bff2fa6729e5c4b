//! The list of all messages, and what there is to know of each.

use schemars::{Schema, schema_for};

use crate::{
    AlertRaised, BackupRequested, BatchReady, CertificateWanted, Event, IncidentOpened,
    KeyBackedUp, KeyCompromised, KeyCreated, KeyringChanged, Message, Queue, RotationCompleted,
    RotationDue, RotationFailed, RotationRequested, Route, StandbyWanted, StragglersWanted,
};

/// What there is to know of one message type.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The CloudEvents type.
    pub name: &'static str,
    /// Where it goes.
    pub route: Route,
    /// Where those go that overtake all others, if any does.
    pub urgent: Option<Queue>,
    /// Whether people and systems outside may publish it.
    pub from_outside: bool,
    /// The JSON Schema of its data.
    pub schema: fn() -> Schema,
    route_of: fn(&Event) -> Route,
}

impl Entry {
    const fn of<M: Message>() -> Self {
        Self {
            name: M::TYPE,
            route: M::ROUTE,
            urgent: M::URGENT,
            from_outside: M::FROM_OUTSIDE,
            schema: || schema_for!(M),
            route_of: |event| event.message::<M>().map_or(M::ROUTE, |it| it.route()),
        }
    }

    /// Every queue that takes messages of this type.
    pub fn queues(&self) -> impl Iterator<Item = Queue> {
        self.route.queue.into_iter().chain(self.urgent)
    }
}

/// Every message there is.
pub const CATALOGUE: &[Entry] = &[
    Entry::of::<RotationRequested>(),
    Entry::of::<RotationDue>(),
    Entry::of::<StandbyWanted>(),
    Entry::of::<StragglersWanted>(),
    Entry::of::<KeyCompromised>(),
    Entry::of::<BackupRequested>(),
    Entry::of::<KeyCreated>(),
    Entry::of::<KeyBackedUp>(),
    Entry::of::<KeyringChanged>(),
    Entry::of::<BatchReady>(),
    Entry::of::<RotationCompleted>(),
    Entry::of::<RotationFailed>(),
    Entry::of::<CertificateWanted>(),
    Entry::of::<IncidentOpened>(),
    Entry::of::<AlertRaised>(),
];

/// Where an event goes; `None` for a type we do not know.
pub fn route_of(event: &Event) -> Option<Route> {
    let entry = CATALOGUE.iter().find(|entry| entry.name == event.type_)?;
    Some((entry.route_of)(event))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fmt::Write, fs, path::Path};

    use rekey_domain::KeyId;
    use uuid::Uuid;

    use super::*;

    /// The documents are generated from the catalogue; `REKEY_BLESS=1` writes them.
    fn check(file: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs/messages")
            .join(file);
        if std::env::var_os("REKEY_BLESS").is_some() {
            fs::write(&path, generated).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            stored, generated,
            "docs/messages/{file} is stale; run with REKEY_BLESS=1 if the change only adds"
        );
    }

    #[test]
    fn every_schema_is_documented_as_it_is() {
        for entry in CATALOGUE {
            let schema = serde_json::to_string_pretty(&(entry.schema)()).unwrap();
            check(&format!("{}.json", entry.name), &format!("{schema}\n"));
        }
        let event = serde_json::to_string_pretty(&schema_for!(crate::Event)).unwrap();
        check("cloudevent.json", &format!("{event}\n"));
    }

    #[test]
    fn the_overview_is_the_catalogue() {
        let mut page = String::from(
            "# Messages\n\nGenerated from `crates/messages`. Each is a CloudEvents 1.0 event in structured mode\n\
             ([`cloudevent.json`](cloudevent.json)) whose `data` follows the schema of its type. Unknown fields are\n\
             ignored, fields are only ever added, no order is assumed, an event has at most 64 KiB.\n\n\
             People and systems outside publish to the exchange `rekey.requests` and to no other, with the type as\n\
             routing key and the property `user-id`, which RabbitMQ checks. What a `[[principal]]` may ask for is\n\
             admitted: it goes on to the workers as an event of ours. All else is refused and audited.\n\n\
             An event that overtakes all others (`\"urgent\": true`) goes to the second queue of its row, by the routing\n\
             key `<type>.urgent`.\n\n\
             | type | exchange | queue | mandatory | from outside |\n|---|---|---|---|---|\n",
        );
        for entry in CATALOGUE {
            let Entry { name, route, .. } = entry;
            let queues: Vec<_> = entry.queues().map(|queue| queue.to_string()).collect();
            let queue = match &queues[..] {
                [] => "whoever listens".to_owned(),
                queues => queues.join(", "),
            };
            let mandatory = if route.is_mandatory() { "yes" } else { "no" };
            let outside = if entry.from_outside { "yes" } else { "no" };
            writeln!(
                page,
                "| [`{name}`]({name}.json) | `{}` | {queue} | {mandatory} | {outside} |",
                route.exchange
            )
            .unwrap();
        }
        check("README.md", &page);
    }

    #[test]
    fn only_an_urgent_batch_goes_the_urgent_way_and_does_so_at_every_attempt() {
        let batch = |urgent| BatchReady {
            batch: Uuid::nil(),
            rotation: Uuid::nil(),
            generation: 1,
            target: KeyId::new(7),
            urgent,
        };
        for (urgent, queue, key) in [
            (false, Queue::ReEncryptor, "rekey.batch.ready.v1"),
            (
                true,
                Queue::ReEncryptorUrgent,
                "rekey.batch.ready.v1.urgent",
            ),
        ] {
            let message = batch(urgent);
            assert_eq!(message.route().queue, Some(queue));
            assert_eq!(queue.routing_key(BatchReady::TYPE), key);
            let event = Event::of(&message, "/rekey", chrono::DateTime::UNIX_EPOCH);
            assert_eq!(route_of(&event.next_attempt()), Some(message.route()));
        }
    }

    #[test]
    fn a_batch_of_an_older_program_is_not_urgent() {
        let mut event = Event::of(
            &BatchReady {
                batch: Uuid::nil(),
                rotation: Uuid::nil(),
                generation: 1,
                target: KeyId::new(7),
                urgent: true,
            },
            "/rekey",
            chrono::DateTime::UNIX_EPOCH,
        );
        event.data.as_object_mut().unwrap().remove("urgent");
        assert_eq!(route_of(&event), Some(BatchReady::ROUTE));
    }

    #[test]
    fn types_are_unique_and_well_formed() {
        let names: HashSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for name in names {
            let parts: Vec<_> = name.split('.').collect();
            assert!(matches!(parts[..], ["rekey", _, _, "v1"]), "{name}");
        }
    }
}
