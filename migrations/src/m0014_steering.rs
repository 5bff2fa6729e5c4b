//! Canaries, cancelling, and the limits of sources.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in [
            bigint("pause_after"),
            text("only_column"),
            text("cancelled_because"),
        ] {
            add(manager, "rotation", optional(column)).await?;
        }
        for column in [bigint("rows_moved"), text("waiting_because")] {
            add(manager, "batch", optional(column)).await?;
        }
        add(manager, "source", optional(text("limits"))).await?;
        let columns = vec![
            uuid("source_id").primary_key().to_owned(),
            bigint("owed"),
            bigint("as_of"),
        ];
        create(manager, "pace", columns).await
    }
}
