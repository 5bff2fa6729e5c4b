//! What databases and tables are known by, whatever they are called.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Noted at each apply; nothing of what was applied before.
        add(manager, "source", optional(text("database_id"))).await?;
        add(manager, "source_table", optional(bigint("oid"))).await
    }
}
