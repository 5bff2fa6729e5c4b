//! By what a destination is known again, and since when its name means that place.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "destination", optional(uuid("mark"))).await?;
        add(manager, "destination", optional(time("here_since"))).await
    }
}
