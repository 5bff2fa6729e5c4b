//! Whether a rotation's batches overtake all others.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Rotations of older programs are not.
        let urgent = boolean("urgent").default(false).to_owned();
        add(manager, "rotation", urgent).await
    }
}
