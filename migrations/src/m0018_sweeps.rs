//! Whether a rotation makes a switch, and the columns that one without is limited to.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Rotations of older programs do.
        let kind = text("kind").default("switch").to_owned();
        add(manager, "rotation", kind).await?;
        // Older programs sweep all columns of the keyring, which is more than was asked for.
        add(manager, "rotation", optional(text("sweep_columns"))).await
    }
}
