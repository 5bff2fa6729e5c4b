//! A unit commits only while this process leads.

use rekey_store::{
    StoreError, Unit,
    leases::{self, Lease},
};

/// Makes a unit depend on still leading.
pub async fn still_leading(unit: &Unit, lease: &Lease) -> Result<(), StoreError> {
    leases::hold(unit, lease, leases::JOB_LEASE).await
}
