//! Whether it was said that publications of a table may send our updates on.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Nothing of tables from before: they were looked at when they were applied, and are anew then.
        let accepted = optional(boolean("publications_accepted"));
        add(manager, "source_table", accepted).await
    }
}
