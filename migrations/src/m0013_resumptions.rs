//! How often a rotation was resumed: what failed before that says nothing of it any more.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table(Alias::new("rotation"))
            .add_column(int("resumptions").default(0))
            .to_owned();
        manager.alter_table(table).await
    }
}
