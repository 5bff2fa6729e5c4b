//! The scheduler looks every second for dispatched batches that gave no sign of life, among millions that ended.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index =
            "CREATE INDEX ix_batch_dispatched ON batch (resend_at) WHERE state = 'DISPATCHED'";
        manager.get_connection().execute_unprepared(index).await?;
        Ok(())
    }
}
