//! Where the rotation of a message stood when that was given up: once it stands elsewhere, nobody has to look.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "dead_letter", optional(text("stood"))).await
    }
}
