//! What a batch was about to write: whoever goes on after a kill finds out whether it was written.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "batch", optional(text("in_doubt"))).await
    }
}
