//! What destinations keep of a deployment whose store is lost: bundles that open, and the newest checkpoint that is ours.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rekey_backups::{
    BackedUpKey, Bundle, BundleName, Checkpoint, DeploymentBundle, KeyRecord, SignedCheckpoint,
    StatesDocument, newest,
};
use rekey_destinations::{Destination, DestinationError, ObjectName};
use rekey_domain::{DestinationName, KeyId, KeyState, Purpose};
use rekey_envelope::{PublicKey, SigningKey};
use uuid::Uuid;

use super::{
    listing::listed,
    opening::{Opener, Opens},
};
use crate::{OperationError, Services, backups::deployment::contents::Contents};

/// So many checkpoints of a destination are looked at, the newest first, to find one that is ours.
const LOOKED_AT: usize = 20;

/// What was found.
pub(crate) struct Found {
    pub(crate) deployment: Uuid,
    pub(crate) keys: BTreeMap<KeyId, FoundKey>,
    pub(crate) checkpoint: Option<FoundCheckpoint>,
    pub(crate) contents: Contents,
    /// What is wrong with single objects, for people.
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// What the newest checkpoint says of a key.
    pub(crate) fn record(&self, id: KeyId) -> Option<&KeyRecord> {
        let states = &self.checkpoint.as_ref()?.states;
        states.keys.iter().find(|record| record.key_id == id)
    }

    /// The state of a key that comes back: it never encrypts.
    pub(crate) fn state(&self, id: KeyId) -> KeyState {
        use KeyState::{Compromised, Destroyed, Destroying, Inactive};
        match self.record(id).map(|record| record.state) {
            Some(gone @ (Destroyed | Destroying | Compromised)) => gone,
            _ => Inactive,
        }
    }

    /// Keys that the newest checkpoint knows to have been primary, and that no bundle brings back; `has` are there already.
    pub(crate) fn lost(&self, has: &HashSet<KeyId>) -> Vec<KeyId> {
        let records = self.checkpoint.iter().flat_map(|one| &one.states.keys);
        let lost = records.filter(|record| {
            record.first_primary_at.is_some()
                && record.state != KeyState::Destroyed
                && !self.keys.contains_key(&record.key_id)
                && !has.contains(&record.key_id)
        });
        lost.map(|record| record.key_id).collect()
    }

    /// Refuses to go on where values may stand under keys that do not come back.
    pub(crate) fn refuse_incomplete(&self, has: &HashSet<KeyId>) -> Result<(), OperationError> {
        let lost = self.lost(has);
        if lost.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = lost.iter().map(ToString::to_string).collect();
        Err(refused(format!(
            "the newest checkpoint knows {} key(s) that were primary and that no bundle brings back: {}; values under them will not open. With --incomplete the others come back{}",
            ids.len(),
            ids.join(", "),
            because(&self.notes)
        )))
    }

    /// As people call it.
    pub(crate) fn name(&self, id: KeyId) -> String {
        let key = self.keys.get(&id).map(|found| &found.key.details);
        key.map_or_else(
            || id.to_string(),
            |details| format!("{}/{}", details.keyring_name, details.version),
        )
    }
}

/// A key that came out of a bundle.
pub(crate) struct FoundKey {
    pub(crate) key: BackedUpKey,
    pub(crate) destination: DestinationName,
    pub(crate) bundle: String,
}

/// The newest checkpoint over all destinations.
pub(crate) struct FoundCheckpoint {
    pub(crate) signed: SignedCheckpoint,
    pub(crate) states: StatesDocument,
    pub(crate) destination: DestinationName,
}

impl FoundCheckpoint {
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        self.signed.claims()
    }

    /// As the record calls it: its number, the entry at which it was made, and its hash.
    pub(crate) fn subject(&self) -> String {
        subject(&self.signed)
    }
}

/// As the record calls a checkpoint.
pub(crate) fn subject(signed: &SignedCheckpoint) -> String {
    let checkpoint = signed.claims();
    format!(
        "checkpoint/{}/{}/{}",
        checkpoint.counter,
        checkpoint.audit.sequence,
        hex::encode(signed.sha256())
    )
}

/// Looks through every destination that this process reaches. One that is away or not whole is left out, and named.
///
/// # Errors
/// [`OperationError::Refused`] where it is not known which deployment is meant, or what is there does not make one whole.
pub(crate) async fn find(
    services: &Services,
    wanted: Option<Uuid>,
    opener: &Opener<'_>,
) -> Result<Found, OperationError> {
    let mut search = Search::default();
    let mut places = Vec::new();
    for name in services.backups.names() {
        let opened = services.backups.open(name)?;
        places.extend(opened.map(|place| (name.clone(), place)));
    }
    for (name, place) in &places {
        if let Err(error) = search.bundles(name, &**place).await {
            search.left_out(name, &error);
        }
    }
    let deployment = search.deployment(wanted)?;
    search
        .bundles
        .retain(|one| one.bundle.deployment() == deployment);
    search.open(services, opener).await?;
    let mut found = None::<FoundCheckpoint>;
    for (name, place) in &places {
        match search.checkpoint(name, &**place, deployment).await {
            Ok(newer) => {
                let counter = |one: &FoundCheckpoint| one.checkpoint().counter;
                found = found.into_iter().chain(newer).max_by_key(counter);
            }
            Err(error) => search.left_out(name, &error),
        }
    }
    let named = found
        .as_ref()
        .and_then(|one| one.states.deployment_bundle.clone());
    for (name, place) in &places {
        let at = (name, &**place);
        if let Err(error) = search
            .deployments(at, opener, deployment, named.as_ref())
            .await
        {
            search.left_out(name, &error);
        }
    }
    let contents = search.contents(named.as_ref())?;
    Ok(Found {
        deployment,
        keys: search.keys,
        checkpoint: found,
        contents,
        notes: search.notes,
    })
}

struct Stored {
    destination: DestinationName,
    bundle: Bundle,
}

#[derive(Default)]
struct Search {
    bundles: Vec<Stored>,
    keys: BTreeMap<KeyId, FoundKey>,
    notes: Vec<String>,
    opens: Opens,
    /// What the store knew beside keys, by the name of its bundle.
    contents: BTreeMap<String, Contents>,
}

impl Search {
    async fn bundles(
        &mut self,
        destination: &DestinationName,
        place: &dyn Destination,
    ) -> Result<(), DestinationError> {
        for object in listed(place, "bundles").await? {
            let Ok(name) = object.as_str().parse::<BundleName>() else {
                continue;
            };
            let bytes = match place.read(&object).await {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    self.note(destination, object.as_str(), &error);
                    continue;
                }
                Ok(bytes) => bytes,
            };
            match Bundle::read(&name, &bytes) {
                Ok(bundle) => self.bundles.push(Stored {
                    destination: destination.clone(),
                    bundle,
                }),
                Err(error) => self.note(destination, object.as_str(), &error),
            }
        }
        Ok(())
    }

    fn left_out(&mut self, destination: &DestinationName, why: &dyn std::fmt::Display) {
        self.notes
            .push(format!("destination {destination} is left out: {why}"));
    }

    fn note(&mut self, destination: &DestinationName, object: &str, why: &dyn std::fmt::Display) {
        self.notes.push(format!("{object} at {destination}: {why}"));
    }

    /// The deployment that is meant.
    fn deployment(&self, wanted: Option<Uuid>) -> Result<Uuid, OperationError> {
        let all: BTreeSet<_> = self
            .bundles
            .iter()
            .map(|one| one.bundle.deployment())
            .collect();
        match (wanted, all.len()) {
            (_, 0) => Err(refused(format!(
                "no bundle stands at a destination that this process reaches: check [[destination]] in rekey.toml{}",
                because(&self.notes)
            ))),
            (Some(wanted), _) if all.contains(&wanted) => Ok(wanted),
            (None, 1) => Ok(all.into_iter().next().expect("there is one")),
            _ => {
                let all: Vec<_> = all.iter().map(Uuid::to_string).collect();
                Err(refused(format!(
                    "expected one of the deployments that have bundles there, said by --deployment; found {}",
                    all.join(", ")
                )))
            }
        }
    }

    /// Opens them: BACKUP keys first, as others are opened with them.
    async fn open(
        &mut self,
        services: &Services,
        opener: &Opener<'_>,
    ) -> Result<(), OperationError> {
        let mut bundles = std::mem::take(&mut self.bundles);
        bundles.sort_by_key(|one| one.bundle.wrapped().is_none());
        let (count, mut closed) = (bundles.len(), Vec::new());
        for one in bundles {
            let name = one.bundle.name().to_string();
            match self.opens.key(services, opener, &one.bundle).await? {
                Ok(key) => self.keep(one.destination, name, key)?,
                Err(why) => closed.push((one, name, why)),
            }
        }
        if self.keys.is_empty() {
            let whys: BTreeSet<_> = closed.into_iter().map(|(.., why)| why).collect();
            let whys: Vec<_> = whys.into_iter().take(3).collect();
            return Err(refused(format!(
                "none of {count} bundle(s) opens: {}; where the KMS is lost, shares of the RECOVERY key open them: --with-shares",
                whys.join("; ")
            )));
        }
        // Of a key that came back an older bundle says nothing.
        closed.retain(|(one, ..)| !self.keys.contains_key(&one.bundle.key_id()));
        for (one, name, why) in closed {
            self.note(&one.destination, &name, &why);
        }
        Ok(())
    }

    /// Of several bundles of a key the one with the latest times; they hold the same key, or somebody made one.
    fn keep(
        &mut self,
        destination: DestinationName,
        bundle: String,
        key: BackedUpKey,
    ) -> Result<(), OperationError> {
        if let Some(known) = self.keys.get(&key.key_id) {
            let (ours, theirs) = (&known.key, &key);
            if ours.material.expose_key_bytes() != theirs.material.expose_key_bytes()
                || ours.details.keyring != theirs.details.keyring
            {
                return Err(refused(format!(
                    "two bundles hold different keys under the id {}: {} at {} and {bundle} at {destination}; take the wrong one away",
                    key.key_id, known.bundle, known.destination
                )));
            }
            let times = |one: &BackedUpKey| (one.details.deactivated_at, one.details.activated_at);
            if times(ours) >= times(theirs) {
                return Ok(());
            }
        }
        let found = FoundKey {
            destination,
            bundle,
            key,
        };
        self.keys.insert(found.key.key_id, found);
        Ok(())
    }

    /// The newest checkpoint of a destination that a SIGNING key of ours has signed.
    ///
    /// # Errors
    /// [`OperationError::Refused`] where one before it is missing or altered: somebody took it away.
    async fn checkpoint(
        &mut self,
        destination: &DestinationName,
        place: &dyn Destination,
        deployment: Uuid,
    ) -> Result<Option<FoundCheckpoint>, OperationError> {
        let listed = listed(place, &Checkpoint::folder(deployment)).await?;
        let (mut ours, mut others) = (Vec::new(), 0);
        for object in listed.iter().rev() {
            if ours.len() == LOOKED_AT {
                break;
            }
            // Whoever may create there can put anything between ours.
            let read = match place.read(object).await {
                Err(error) if error.is_retryable() => return Err(error.into()),
                read => read,
            };
            let signed = read.map(|bytes| SignedCheckpoint::read(object.as_str(), &bytes));
            match signed {
                Ok(Ok(signed)) if self.is_ours(&signed) => ours.push(signed),
                _ => others += 1,
            }
        }
        if others > 0 {
            let why = "that no SIGNING key of this deployment has signed";
            self.notes.push(format!(
                "{others} object(s) among the checkpoints at {destination} {why}"
            ));
        }
        let from_start = ours.len() < LOOKED_AT;
        ours.reverse();
        let newest = newest(&ours, from_start);
        let gap = |error| {
            refused(format!(
                "the checkpoints at {destination} are not whole: {error}"
            ))
        };
        let Some(signed) = newest.map_err(gap)?.cloned() else {
            return Ok(None);
        };
        let name = signed.claims().states_name();
        let object = name.parse::<ObjectName>();
        let object = object.map_err(|error| refused(error.to_string()))?;
        let states = StatesDocument::read(&name, &place.read(&object).await?);
        Ok(Some(FoundCheckpoint {
            states: states.map_err(|error| refused(format!("{name} at {destination}: {error}")))?,
            signed,
            destination: destination.clone(),
        }))
    }

    fn is_ours(&self, signed: &SignedCheckpoint) -> bool {
        let id = signed.signed_by();
        let key = self.keys.get(&id).map(|found| &found.key);
        let key = key.filter(|key| key.details.purpose == Purpose::Signing);
        key.and_then(public_key)
            .is_some_and(|public| signed.verify(id, &public).is_ok())
    }

    /// What the store knew beside keys: what the checkpoint names, else all there are.
    async fn deployments(
        &mut self,
        (name, place): (&DestinationName, &dyn Destination),
        opener: &Opener<'_>,
        deployment: Uuid,
        named: Option<&String>,
    ) -> Result<(), DestinationError> {
        for object in listed(place, &format!("deployments/{deployment}")).await? {
            let is_meant = named.is_none_or(|named| named == object.as_str());
            if !is_meant || self.contents.contains_key(object.as_str()) {
                continue;
            }
            let bytes = match place.read(&object).await {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    self.note(name, object.as_str(), &error);
                    continue;
                }
                Ok(bytes) => bytes,
            };
            let opened = DeploymentBundle::read(object.as_str(), &bytes)
                .map_err(|error| error.to_string())
                .and_then(|bundle| self.opens.deployment(opener, &bundle));
            match opened.map(|held| serde_json::from_slice::<Contents>(&held)) {
                Ok(Ok(contents)) if contents.deployment == deployment => {
                    self.contents.insert(object.to_string(), contents);
                }
                Ok(_) => self.note(name, object.as_str(), &"it holds something else"),
                Err(error) => self.note(name, object.as_str(), &error),
            }
        }
        Ok(())
    }

    fn contents(&mut self, named: Option<&String>) -> Result<Contents, OperationError> {
        let all = std::mem::take(&mut self.contents);
        let names: Vec<_> = all.keys().cloned().collect();
        match all.into_values().next() {
            Some(contents) if names.len() == 1 => Ok(contents),
            _ => Err(refused(format!(
                "expected one bundle of the deployment {}, which knows its keyrings and columns, found {} that open{}{}",
                match named {
                    Some(named) => format!("that the newest checkpoint names, {named}"),
                    None => "as no checkpoint names one".to_owned(),
                },
                names.len(),
                match names.len() {
                    0 => String::new(),
                    _ => format!(" ({}): take away all but the newest", names.join(", ")),
                },
                because(&self.notes)
            ))),
        }
    }
}

/// The first of what was passed over.
pub(crate) fn because(notes: &[String]) -> String {
    let some: Vec<_> = notes.iter().take(5).cloned().collect();
    match notes.len() {
        0 => String::new(),
        count if count > some.len() => {
            format!(": {}; and {} more", some.join("; "), count - some.len())
        }
        _ => format!(": {}", some.join("; ")),
    }
}

/// The public half of a SIGNING key.
fn public_key(key: &BackedUpKey) -> Option<PublicKey> {
    let pair = SigningKey::new(&key.material).ok()?;
    Some(pair.public_key())
}

pub(crate) fn refused(why: String) -> OperationError {
    OperationError::Refused(why)
}
