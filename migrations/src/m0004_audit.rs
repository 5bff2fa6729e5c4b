//! The hash-chained audit log.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "audit_entry",
            vec![
                bigint("sequence").primary_key().to_owned(),
                time("time"),
                text("principal"),
                text("action"),
                text("subject"),
                text("outcome"),
                bytes("details_hash"),
                bytes("previous_hash"),
                bytes("hash"),
            ],
        )
        .await?;
        create(
            manager,
            "audit_detail",
            vec![
                bigint("sequence").primary_key().to_owned(),
                bytes("details"),
            ],
        )
        .await?;
        create(
            manager,
            "audit_head",
            vec![
                int("id").primary_key().to_owned(),
                bigint("sequence"),
                bytes("hash"),
            ],
        )
        .await
    }
}
