//! The newest checkpoint at each destination, and why nothing is encrypted while a store that was rolled back stands.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let checkpoint = vec![
            id(),
            text("destination"),
            bigint("counter"),
            bytes("sha256"),
            bigint("sequence"),
            bytes("hash"),
            text("states"),
            time("written_at"),
            optional(text("problem")),
            optional(time("failing_since")),
        ];
        create(manager, "checkpoint", checkpoint).await?;
        index(manager, "checkpoint", &["destination"], true).await?;
        add(manager, "deployment", optional(text("suspended_because"))).await?;
        add(manager, "deployment", optional(time("suspended_at"))).await
    }
}
