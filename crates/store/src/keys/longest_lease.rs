//! Each key keeps the longest encrypt lease that is given under it.

use std::time::Duration;

use rekey_domain::KeyId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{StoreError, Unit, database::stored::Id, keys::entities::key};

/// Notes that leases of this length are given under the key from now on. If its longest lease is unknown, it stays
/// unknown.
pub(crate) async fn raise_longest(
    unit: &Unit,
    id: KeyId,
    lease: Duration,
) -> Result<(), StoreError> {
    use key::Column::LongestLease;
    key::Entity::update_many()
        .col_expr(LongestLease, Expr::value(millis(lease)))
        .filter(key::Column::KeyId.eq(Id(id)))
        .filter(LongestLease.lt(millis(lease)))
        .exec(unit.db())
        .await?;
    Ok(())
}

pub(crate) fn millis(lease: Duration) -> i64 {
    i64::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
