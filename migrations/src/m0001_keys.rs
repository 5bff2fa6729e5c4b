//! The deployment, its keyrings and their keys.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, "deployment", vec![id(), time("created_at")]).await?;
        create(
            manager,
            "keyring",
            vec![
                id(),
                text("name"),
                text("purpose"),
                text("algorithm"),
                text("policy"),
                optional(bigint("primary_key_id")),
                time("created_at"),
            ],
        )
        .await?;
        index(manager, "keyring", &["name"], true).await?;
        create(
            manager,
            "key",
            vec![
                bigint("key_id").primary_key().to_owned(),
                uuid("keyring_id"),
                int("version"),
                text("state"),
                text("algorithm"),
                optional(bytes("wrapped")),
                bytes("check_value"),
                bigint("used"),
                bigint("used_by_applications"),
                time("created_at"),
                optional(time("activated_at")),
                optional(time("deactivated_at")),
                optional(time("expires_at")),
            ],
        )
        .await?;
        index(manager, "key", &["keyring_id", "version"], true).await?;
        // One primary a keyring, whatever the programs do.
        manager
            .get_connection()
            .execute_unprepared("CREATE UNIQUE INDEX uq_key_one_active ON \"key\" (keyring_id) WHERE state = 'ACTIVE'")
            .await?;
        Ok(())
    }
}
