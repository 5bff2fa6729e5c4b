//! Why a rotation is on hold.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table(Alias::new("rotation"))
            .add_column(optional(text("paused_because")))
            .to_owned();
        manager.alter_table(table).await
    }
}
