//! A store is compared with the newest checkpoint of a destination: one that knows more shows that the store was rolled back.

use rekey_backups::{Checkpoint, SignedCheckpoint};
use rekey_destinations::{Destination, DestinationError, ObjectName};
use rekey_domain::{BackupProblem, DestinationName, KeyId, Purpose};
use rekey_envelope::{PublicKey, SigningKey};
use rekey_store::{audit, backups::checkpoints::KnownCheckpoint, keys};
use uuid::Uuid;

use super::{
    restoring::{BackupKeys, Restorer},
    sealing::Trouble,
    storing::{object_name, of_destination},
};
use crate::{
    Services,
    audit::{is_linked, lost_and_found},
    recovery::{
        finding::subject,
        listing::{behind, listed},
    },
};

/// What came of it.
pub(crate) enum Compared {
    /// The store has all that the newest checkpoint knows; none: there is no checkpoint.
    Same(Option<SignedCheckpoint>),
    /// It is another store, or another record: why, and which checkpoint knows more.
    Another(String, String),
}

/// Compares. What nobody of ours signed is passed over: whoever may create there could stop all encryption with it.
pub(crate) async fn compare(
    services: &Services,
    at: (&DestinationName, &dyn Destination),
    deployment: Uuid,
    last: Option<&KnownCheckpoint>,
) -> Result<Compared, Trouble> {
    let Some(newest) = newest(services, at, deployment, last).await? else {
        return Ok(Compared::Same(None));
    };
    let checkpoint = newest.claims();
    let (sequence, hash) = (checkpoint.audit.sequence, checkpoint.audit.hash);
    let db = services.store.db();
    let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
    if lost_and_found(db, checkpoint.counter).await?.is_some() {
        return Ok(Compared::Same(Some(newest)));
    }
    let entry = audit::page(db, sequence - 1, 1).await?.into_iter().next();
    let entry = entry.map(|(entry, _)| entry);
    let why = match entry.filter(|entry| entry.sequence == sequence) {
        _ if sequence == 0 => None,
        Some(entry) if entry.hash != hash => Some(format!(
            "entry {sequence} of the record is another than the one that checkpoint {} at {} knows",
            checkpoint.counter, at.0
        )),
        Some(_) => match is_linked(db, sequence, &hash).await? {
            true => None,
            false => Some(format!(
                "the record after entry {sequence}, which checkpoint {} at {} knows, was altered",
                checkpoint.counter, at.0
            )),
        },
        None => {
            let head = audit::head(db).await?.map_or(0, |head| head.0);
            Some(format!(
                "the record ends at entry {head}, and checkpoint {} at {} knows entry {sequence}: the store is an earlier one",
                checkpoint.counter, at.0
            ))
        }
    };
    Ok(match why {
        Some(why) => Compared::Another(why, subject(&newest)),
        None => Compared::Same(Some(newest)),
    })
}

/// The newest that is ours: behind the one that the store knows, else that one.
async fn newest(
    services: &Services,
    (name, place): (&DestinationName, &dyn Destination),
    deployment: Uuid,
    last: Option<&KnownCheckpoint>,
) -> Result<Option<SignedCheckpoint>, Trouble> {
    let folder = Checkpoint::folder(deployment);
    let known = last.map(|last| object_name(&Checkpoint::name_of(deployment, last.counter)));
    let known = known.transpose()?;
    let found = match &known {
        Some(known) => behind(place, &folder, Some(known)).await,
        None => listed(place, &folder).await,
    };
    let found = match found {
        // The first object makes the directory.
        Err(DestinationError::NoPlace { .. }) if known.is_none() => Vec::new(),
        found => found.map_err(|error| of_destination(&error))?,
    };
    for object in found.iter().rev() {
        if let Some(signed) = ours(services, (name, place), object).await? {
            return Ok(Some(signed));
        }
    }
    let (Some(known), Some(last)) = (known, last) else {
        return Ok(None);
    };
    let bytes = match place.read(&known).await {
        Err(DestinationError::Missing { .. }) => {
            tracing::error!(destination = %name, object = %known, "the newest checkpoint is gone: the destination went back in time, or somebody erases there");
            return last_there(services, (name, place), &folder).await;
        }
        read => read.map_err(|error| of_destination(&error))?,
    };
    let signed = SignedCheckpoint::read(known.as_str(), &bytes);
    match signed {
        Ok(signed) if signed.sha256()[..] == last.sha256[..] => Ok(Some(signed)),
        _ => Err(Trouble::Problem(BackupProblem::Altered)),
    }
}

/// The newest of ours that is there at all.
async fn last_there(
    services: &Services,
    at: (&DestinationName, &dyn Destination),
    folder: &str,
) -> Result<Option<SignedCheckpoint>, Trouble> {
    let found = listed(at.1, folder).await;
    let found = found.map_err(|error| of_destination(&error))?;
    for object in found.iter().rev() {
        if let Some(signed) = ours(services, at, object).await? {
            return Ok(Some(signed));
        }
    }
    Ok(None)
}

async fn ours(
    services: &Services,
    (name, place): (&DestinationName, &dyn Destination),
    object: &ObjectName,
) -> Result<Option<SignedCheckpoint>, Trouble> {
    let bytes = match place.read(object).await {
        // What is there and cannot be read is none of ours; a destination that is away says nothing.
        Err(error) if !error.is_retryable() => {
            tracing::warn!(destination = %name, %object, %error, "something that is no checkpoint stands among them");
            return Ok(None);
        }
        read => read.map_err(|error| of_destination(&error))?,
    };
    let Ok(signed) = SignedCheckpoint::read(object.as_str(), &bytes) else {
        tracing::warn!(destination = %name, %object, "something that is no checkpoint stands among them");
        return Ok(None);
    };
    let id = signed.signed_by();
    let public = match keys::find(services.store.db(), id).await? {
        Some(key) => key
            .public_key
            .and_then(|key| PublicKey::try_from(key.as_slice()).ok()),
        // It was made after the moment to which the store went back.
        None => from_bundle(services, (name, place), id).await?,
    };
    if public.is_some_and(|public| signed.verify(id, &public).is_ok()) {
        return Ok(Some(signed));
    }
    tracing::error!(destination = %name, %object, "a checkpoint that no SIGNING key of ours has signed");
    Ok(None)
}

/// The public half of a SIGNING key that the store does not know, from its bundle, which only the BACKUP key can have made.
async fn from_bundle(
    services: &Services,
    (name, place): (&DestinationName, &dyn Destination),
    id: KeyId,
) -> Result<Option<PublicKey>, Trouble> {
    let stored = listed(place, &format!("bundles/{id}")).await;
    let stored = stored.map_err(|error| of_destination(&error))?;
    let mut backup_keys = BackupKeys::new();
    let mut restorer = Restorer {
        services,
        at: (name, place),
        backup_keys: &mut backup_keys,
    };
    for object in stored.iter().rev() {
        match restorer.restore(object.as_str()).await {
            Ok(key) if key.details.purpose == Purpose::Signing && key.key_id == id => {
                let pair = SigningKey::new(&key.material);
                return Ok(pair.ok().map(|pair| pair.public_key()));
            }
            Err(Trouble::Failed(error)) => return Err(Trouble::Failed(error)),
            _ => {}
        }
    }
    Ok(None)
}
