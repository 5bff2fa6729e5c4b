//! Whether a rotation's batches overtake all others, and when a person was done with a dead letter.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Rotations of older programs are not.
        let urgent = boolean("urgent").default(false).to_owned();
        add(manager, "rotation", urgent).await?;
        add(manager, "dead_letter", optional(time("dismissed_at"))).await
    }
}
