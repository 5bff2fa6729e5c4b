//! Destinations, the bundles that are kept there, the drills that prove them, and the RECOVERY keys.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let destination = vec![
            id(),
            text("name"),
            time("made_at"),
            optional(text("erasable")),
            optional(time("probed_at")),
        ];
        create(manager, "destination", destination).await?;
        index(manager, "destination", &["name"], true).await?;
        let backup = vec![
            id(),
            bigint("key_id"),
            text("destination"),
            text("name"),
            bigint("backup_key_id"),
            optional(text("recovery")),
            time("stored_at"),
            time("confirmed_at"),
        ];
        create(manager, "backup", backup).await?;
        // Content-addressed: one name is one bundle.
        index(manager, "backup", &["destination", "name"], true).await?;
        index(manager, "backup", &["key_id"], false).await?;
        let drill = vec![
            id(),
            bigint("key_id"),
            text("destination"),
            optional(text("bundle")),
            optional(text("problem")),
            time("began_at"),
            time("last_at"),
            int("times"),
            bigint("millis"),
            bigint("opened"),
        ];
        create(manager, "drill", drill).await?;
        index(
            manager,
            "drill",
            &["key_id", "destination", "last_at"],
            false,
        )
        .await?;
        let deployment = vec![
            id(),
            text("destination"),
            optional(text("name")),
            optional(text("contents")),
            optional(bigint("backup_key_id")),
            optional(text("recovery")),
            optional(time("stored_at")),
            optional(time("confirmed_at")),
            optional(time("proved_at")),
            time("tried_at"),
            optional(text("problem")),
            int("times"),
        ];
        create(manager, "deployment_backup", deployment).await?;
        index(manager, "deployment_backup", &["destination"], true).await?;
        let request = vec![id(), bigint("key_id"), time("wanted_at")];
        create(manager, "backup_request", request).await?;
        index(manager, "backup_request", &["key_id"], true).await?;
        let recovery_key = vec![
            id(),
            text("fingerprint"),
            bytes("public_key"),
            uuid("share_set"),
            int("threshold"),
            int("shares"),
            text("made_by"),
            time("made_at"),
            optional(time("ended_at")),
        ];
        create(manager, "recovery_key", recovery_key).await?;
        index(manager, "recovery_key", &["fingerprint"], true).await
    }
}
