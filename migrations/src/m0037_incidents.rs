//! Incidents and alerts, keys that were reported compromised, and the rotations that replace them.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["reported_at", "compromised_since", "emptied_at"] {
            add(manager, "key", optional(time(column))).await?;
        }
        add(manager, "rotation", optional(uuid("incident_id"))).await?;
        let incident = vec![
            id(),
            text("kind"),
            text("state"),
            uuid("keyring_id"),
            bigint("key_id"),
            optional(uuid("rotation_id")),
            text("reported_by"),
            time("opened_at"),
            optional(time("acted_at")),
            optional(time("since")),
            optional(text("exposure")),
            optional(text("withheld")),
            optional(text("acknowledged_by")),
            optional(time("acknowledged_at")),
            optional(text("resolved_by")),
            optional(time("resolved_at")),
        ];
        create(manager, "incident", incident).await?;
        index(manager, "incident", &["key_id"], false).await?;
        let alert = vec![
            id(),
            text("kind"),
            text("subject"),
            optional(uuid("incident_id")),
            bigint("figure"),
            time("raised_at"),
            optional(text("acknowledged_by")),
            optional(time("acknowledged_at")),
            optional(time("cleared_at")),
        ];
        create(manager, "alert", alert).await?;
        index(manager, "alert", &["kind", "subject"], true).await
    }
}
