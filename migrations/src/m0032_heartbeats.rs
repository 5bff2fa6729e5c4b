//! Who works and what they wait for: a sign of life of each worker, and since when a batch waits for what should be there.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "batch", optional(bigint("waiting_since"))).await?;
        let heartbeat = vec![
            id(),
            text("worker"),
            text("place"),
            bigint("started_at"),
            bigint("seen_at"),
            optional(text("lacks")),
        ];
        create(manager, "heartbeat", heartbeat).await
    }
}
