//! The longest encrypt lease that was given under a key, and when the last one has ended.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // In milliseconds; none of a key that an older program made primary, so that nothing is known.
        add(manager, "key", optional(bigint("longest_lease"))).await?;
        add(manager, "key", optional(time("leases_end_at"))).await
    }
}
