//! Master keys that were reported, and the addresses of a mail that took it or never will.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let reported = vec![
            id(),
            text("master_key"),
            time("reported_at"),
            optional(time("since")),
            optional(time("exposes_until")),
        ];
        create(manager, "reported_master_key", reported).await?;
        index(manager, "reported_master_key", &["master_key"], true).await?;
        add(manager, "delivery", optional(text("answers"))).await
    }
}
