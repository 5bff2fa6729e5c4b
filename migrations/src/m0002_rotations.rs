//! Rotations, their batches, quarantine and census.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(
            manager,
            "rotation",
            vec![
                id(),
                uuid("keyring_id"),
                text("state"),
                text("reason"),
                text("principal"),
                boolean("paused"),
                int("generation"),
                int("pass"),
                boolean("planned"),
                int("plan_table"),
                optional(bigint("plan_after")),
                optional(bigint("target_key_id")),
                optional(bigint("previous_key_id")),
                optional(time("due_at")),
                bigint("resend_at"),
                time("requested_at"),
                optional(time("switched_at")),
                optional(time("ended_at")),
                optional(text("failure")),
                optional(text("certificate")),
            ],
        )
        .await?;
        index(manager, "rotation", &["keyring_id", "requested_at"], false).await?;
        let live = "CREATE UNIQUE INDEX uq_rotation_one_live ON rotation (keyring_id) WHERE state IN \
                    ('REQUESTED', 'DISTRIBUTING', 'RE_ENCRYPTING', 'GRACE', 'VERIFYING')";
        manager.get_connection().execute_unprepared(live).await?;
        create(
            manager,
            "batch",
            vec![
                id(),
                uuid("rotation_id"),
                uuid("table_id"),
                int("pass"),
                bigint("first"),
                bigint("last"),
                text("state"),
                bigint("resend_at"),
                bigint("moved"),
                bigint("conflicts"),
                bigint("quarantined"),
                optional(text("failure")),
                optional(time("ended_at")),
            ],
        )
        .await?;
        index(manager, "batch", &["rotation_id", "pass", "state"], false).await?;
        index(
            manager,
            "batch",
            &["rotation_id", "pass", "table_id", "first"],
            true,
        )
        .await?;
        create(
            manager,
            "quarantine",
            vec![
                id(),
                uuid("rotation_id"),
                uuid("column_id"),
                text("row_key"),
                optional(bigint("found_key_id")),
                text("reason"),
                time("found_at"),
                optional(time("resolved_at")),
            ],
        )
        .await?;
        index(manager, "quarantine", &["column_id", "row_key"], true).await?;
        create(
            manager,
            "census",
            vec![
                id(),
                uuid("rotation_id"),
                int("pass"),
                uuid("column_id"),
                optional(bigint("found_key_id")),
                bigint("rows"),
                time("taken_at"),
            ],
        )
        .await?;
        index(manager, "census", &["rotation_id", "pass"], false).await
    }
}
