//! Where a pass opened what was in quarantine.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let reopened = vec![
            uuid("rotation_id"),
            int("pass"),
            uuid("column_id"),
            text("row_key"),
        ];
        create(manager, "reopened", reopened).await?;
        let key = ["column_id", "row_key", "rotation_id", "pass"];
        index(manager, "reopened", &key, true).await
    }
}
