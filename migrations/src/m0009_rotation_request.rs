//! Which rotation each request for one led to.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = vec![
            text("event_id").primary_key().to_owned(),
            uuid("rotation_id"),
        ];
        create(manager, "rotation_request", columns).await
    }
}
