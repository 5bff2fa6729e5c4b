//! What every kind of destination does the same way when an object is made.

use crate::{DestinationError, Found, LIMIT, MAX_LEN, ObjectName};

/// Refuses to write what could not be read again.
pub(crate) fn check_len(
    place: &str,
    name: &ObjectName,
    bytes: &[u8],
) -> Result<(), DestinationError> {
    if bytes.len() <= MAX_LEN {
        return Ok(());
    }
    Err(DestinationError::TooLongToWrite {
        place: place.to_owned(),
        name: name.clone(),
        found: bytes.len(),
        limit: MAX_LEN,
    })
}

/// Whether what stands there is what was to be made.
pub(crate) fn compare(
    place: &str,
    name: &ObjectName,
    expected: &[u8],
    found: &[u8],
) -> Result<(), DestinationError> {
    if expected == found {
        return Ok(());
    }
    Err(DestinationError::OtherBytes {
        place: place.to_owned(),
        name: name.clone(),
        expected: Box::new(Found::of(expected)),
        found: Box::new(Found::of(found)),
    })
}

/// Ends a call in time.
pub(crate) async fn in_time<T>(
    place: &str,
    call: impl Future<Output = Result<T, DestinationError>>,
) -> Result<T, DestinationError> {
    let too_slow = |_| DestinationError::TooSlow {
        place: place.to_owned(),
        limit: LIMIT,
    };
    tokio::time::timeout(LIMIT, call).await.map_err(too_slow)?
}
