//! Tries to overwrite, and to delete, an object that is there for that alone.

use object_store::PutMode;

use super::{
    answer::{Answered, Code},
    attempts::Attempts,
    bucket::Bucket,
    errors::within,
};
use crate::{DestinationError, Doing, Erasable, ObjectName, url::Service};

const NAME: &str = "probe/erasable";
const BYTES: &[u8] =
    b"Rekey tries to overwrite and to delete this object, to tell whether it could erase others.\n";

/// Where neither is allowed this changes nothing after the first time. Where overwriting keeps versions it adds one.
pub(super) async fn erasable(bucket: &Bucket) -> Result<Erasable, DestinationError> {
    let name: ObjectName = NAME.parse().expect("a name");
    bucket.write(&name, BYTES).await?;
    let mut attempts = Attempts::default();
    let done = loop {
        match overwrite(bucket, &name).await {
            Err(failed) => attempts.after(failed).await?,
            Ok(done) => break done,
        }
    };
    match done {
        Done::Yes => Ok(Erasable::Yes),
        Done::Versioned => Ok(Erasable::Versioned),
        Done::Refused => delete(bucket, &name).await,
    }
}

/// What became of an overwrite.
enum Done {
    Yes,
    Versioned,
    Refused,
}

async fn overwrite(bucket: &Bucket, name: &ObjectName) -> Result<Done, DestinationError> {
    match bucket.put(name, BYTES, PutMode::Overwrite).await {
        // S3 names the version that was made where it keeps versions; Azure does so too.
        Ok(made)
            if made
                .version
                .as_deref()
                .is_some_and(|version| version != "null") =>
        {
            Ok(Done::Versioned)
        }
        Ok(_) => Ok(Done::Yes),
        Err(error) if is_refused(bucket.service, &error) => Ok(Done::Refused),
        Err(error) => Err(bucket.at(Doing::Probe).error(&error)),
    }
}

async fn delete(bucket: &Bucket, name: &ObjectName) -> Result<Erasable, DestinationError> {
    match bucket.clients.own.delete(&bucket.path(name)).await {
        Ok(()) => Ok(Erasable::Yes),
        Err(error) if is_refused(bucket.service, &error) => Ok(Erasable::No),
        Err(error) => Err(bucket.at(Doing::Probe).error(&error)),
    }
}

/// For want of the right, or at Azure as the container cannot be changed.
fn is_refused(service: Service, error: &object_store::Error) -> bool {
    let refused = |answered: &Answered| match answered.status {
        403 => answered.code == Code::Other,
        409 => service == Service::Azure,
        _ => false,
    };
    within(error).is_some_and(refused)
}
