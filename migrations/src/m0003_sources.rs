//! Sources, their tables and protected columns.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "source",
            vec![id(), text("name"), text("url"), time("created_at")],
        )
        .await?;
        index(manager, "source", &["name"], true).await?;
        create(
            manager,
            "source_table",
            vec![id(), uuid("source_id"), text("name"), text("relation")],
        )
        .await?;
        index(manager, "source_table", &["source_id", "name"], true).await?;
        create(
            manager,
            "protected_column",
            vec![
                id(),
                uuid("table_id"),
                uuid("keyring_id"),
                text("name"),
                text("column_id"),
                text("bind"),
                text("bind_columns"),
                text("encoding"),
                time("created_at"),
            ],
        )
        .await?;
        index(manager, "protected_column", &["table_id", "name"], true).await?;
        index(manager, "protected_column", &["column_id"], true).await
    }
}
