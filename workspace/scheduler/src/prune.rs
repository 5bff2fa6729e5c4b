//! Once an hour, the batch rows that nobody needs any more are removed, some in each tick.

use chrono::TimeDelta;
use rekey_operations::Services;
use rekey_store::{StoreError, Unit, leases::Lease, prune, schedules};

/// How long the batch rows of a rotation stay after its end.
const KEPT: TimeDelta = TimeDelta::days(30);
/// Between the end of one pruning and the next.
const EVERY: TimeDelta = TimeDelta::hours(1);
/// Up to when it is done.
const SCHEDULE: &str = "prune/batches";

/// Whether there may be something to remove.
pub async fn is_due(unit: &Unit) -> Result<bool, StoreError> {
    let done = schedules::fired_up_to(unit, SCHEDULE).await?;
    Ok((unit.now() - done).abs() >= EVERY)
}

/// Removes a bounded number of rows, in a unit of its own: whatever stands in its way keeps nothing
/// else from being done. Where there are none left, the next look is in an hour.
pub async fn step(services: &Services, lease: &Lease) -> Result<(), StoreError> {
    let unit = services.store.begin().await?;
    crate::leading::still_leading(&unit, lease).await?;
    if !prune::batches(&unit, unit.now() - KEPT).await? {
        let done = schedules::fired_up_to(&unit, SCHEDULE).await?;
        schedules::settle(&unit, SCHEDULE, done, unit.now()).await?;
    }
    unit.commit().await
}
