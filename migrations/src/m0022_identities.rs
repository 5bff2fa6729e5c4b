//! What tells a value in quarantine from every other, and what a rotation's census rests on.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "quarantine", optional(bytes("row_name"))).await?;
        forget_names_in_clear(manager).await?;
        add(manager, "census", optional(bigint("quarantined"))).await?;
        add(manager, "batch", optional(bigint("opened"))).await?;
        for column in ["fences", "waiting_because"] {
            add(manager, "rotation", optional(text(column))).await?;
        }
        add(manager, "rotation", optional(bigint("waiting_since"))).await
    }
}

/// Primary keys stood here in clear, and may be names or record numbers. The next pass names its rows.
async fn forget_names_in_clear(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let id = match db.get_database_backend() {
        DbBackend::Postgres => "id::text",
        _ => "lower(hex(id))",
    };
    let forget = format!(
        "UPDATE quarantine SET row_key = 'row ' || {id} \
         WHERE row_key NOT LIKE 'rowid %' AND row_key NOT LIKE 'ctid %'"
    );
    db.execute_unprepared(&forget).await.map(drop)
}
