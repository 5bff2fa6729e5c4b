//! When a machine's report last had a key stopped, and the columns where stragglers were found.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "incident", optional(time("machine_acted_at"))).await?;
        add(manager, "straggler_look", optional(text("columns"))).await
    }
}
