//! Public keys of keyrings that sign; the signed certificate of a rotation, and when to look again at
//! one that is not signed yet.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "key", optional(bytes("public_key"))).await?;
        add(manager, "rotation", optional(text("certificate_jws"))).await?;
        // Rotations that completed before have none: their certificates stay unsigned.
        add(manager, "rotation", optional(bigint("certificate_due"))).await
    }
}
