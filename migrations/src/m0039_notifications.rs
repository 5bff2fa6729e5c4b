//! Channels and deliveries, how severe an alert is, and what a worker misses.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "alert", optional(text("severity"))).await?;
        add(manager, "heartbeat", optional(text("misses"))).await?;
        let channel = vec![
            id(),
            text("name"),
            text("kind"),
            text("policy"),
            time("made_at"),
            optional(time("disabled_at")),
            optional(text("failure")),
            optional(time("failing_since")),
        ];
        create(manager, "channel", channel).await?;
        index(manager, "channel", &["name"], true).await?;
        let delivery = vec![
            id(),
            text("channel"),
            text("about"),
            uuid("subject_id"),
            text("event"),
            time("occasion"),
            boolean("presses"),
            text("state"),
            bigint("due_at"),
            int("attempts"),
            optional(bigint("first_attempt_at")),
            optional(bigint("last_attempt_at")),
            optional(bigint("settled_at")),
            optional(text("failure")),
            optional(uuid("digest_id")),
        ];
        create(manager, "delivery", delivery).await?;
        // Unique by subject, channel and event: nobody is told one thing twice.
        let once = ["subject_id", "channel", "event", "occasion"];
        index(manager, "delivery", &once, true).await?;
        index(manager, "delivery", &["channel", "state", "due_at"], false).await
    }
}
