//! One deployment a store, whatever the programs do.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let one = "CREATE UNIQUE INDEX uq_deployment_one ON deployment ((1))";
        manager.get_connection().execute_unprepared(one).await?;
        Ok(())
    }
}
