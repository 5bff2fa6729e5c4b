//! The types of the columns that values are bound to, so that what people write is read as they are.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Noted at each apply; nothing of what was applied before.
        add(manager, "protected_column", optional(text("bind_types"))).await
    }
}
