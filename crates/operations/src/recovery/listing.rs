//! What stands at a destination, by name.

use rekey_destinations::{Destination, DestinationError, ObjectName};

/// Every name in a folder, in order. A folder that is not there has none.
pub(crate) async fn listed(
    place: &dyn Destination,
    folder: &str,
) -> Result<Vec<ObjectName>, DestinationError> {
    behind(place, folder, None).await
}

/// The names behind this one, in order.
pub(crate) async fn behind(
    place: &dyn Destination,
    folder: &str,
    after: Option<&ObjectName>,
) -> Result<Vec<ObjectName>, DestinationError> {
    let folder = folder.parse().expect("folders of ours are named so");
    let mut listed = Vec::<ObjectName>::new();
    loop {
        let page = place.list(&folder, listed.last().or(after)).await?;
        listed.extend(page.names);
        if !page.more {
            return Ok(listed);
        }
    }
}
