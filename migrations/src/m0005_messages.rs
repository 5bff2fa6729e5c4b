//! Outbox, inbox, dead letters, leases and schedules. Times are milliseconds of the database's own clock.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "outbox",
            vec![
                id(),
                text("exchange"),
                optional(text("queue")),
                text("type"),
                text("event"),
                bigint("available_at"),
                bigint("leased_until"),
                bigint("lease_token"),
            ],
        )
        .await?;
        index(manager, "outbox", &["queue", "available_at"], false).await?;
        create(
            manager,
            "inbox",
            vec![
                id(),
                text("source"),
                text("message_id"),
                int("attempt"),
                text("handler"),
                bigint("seen_at"),
            ],
        )
        .await?;
        index(
            manager,
            "inbox",
            &["source", "message_id", "attempt", "handler"],
            true,
        )
        .await?;
        create(
            manager,
            "dead_letter",
            vec![
                id(),
                text("queue"),
                text("type"),
                text("event"),
                text("error"),
                time("died_at"),
                optional(time("retried_at")),
            ],
        )
        .await?;
        create(
            manager,
            "lease",
            vec![
                text("name").primary_key().to_owned(),
                bigint("token"),
                text("holder"),
                bigint("until"),
            ],
        )
        .await?;
        create(
            manager,
            "schedule",
            vec![text("name").primary_key().to_owned(), time("fired_up_to")],
        )
        .await
    }
}
