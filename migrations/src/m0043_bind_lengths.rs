//! How long texts of the columns that values are bound to may be. Beside their types, where older programs read none.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Noted at each apply; nothing of what was applied before.
        add(manager, "protected_column", optional(text("bind_lengths"))).await
    }
}
