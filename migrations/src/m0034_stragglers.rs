//! The daily look for stragglers, and rotations that met values under keys that this store never had.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(
            manager,
            "rotation",
            optional(boolean("unknown_keys_accepted")),
        )
        .await?;
        let look = vec![
            uuid("keyring_id").primary_key().to_owned(),
            time("looked_at"),
            bigint("stragglers"),
            optional(text("unknown_keys")),
            optional(text("failure")),
        ];
        create(manager, "straggler_look", look).await
    }
}
