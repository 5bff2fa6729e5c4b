//! The part of a table that a batch is of; how a table's triggers are treated; when a value was last
//! met in quarantine.

use sea_orm_migration::prelude::*;

use crate::table::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A batch planned before names no part: it is void, and its table is planned again.
        add(manager, "batch", text("part").default("").to_owned()).await?;
        add(manager, "batch", text("part_form").default("").to_owned()).await?;
        add(manager, "rotation", optional(text("plan_part"))).await?;
        add(manager, "source_table", optional(text("triggers"))).await?;
        add(manager, "quarantine", optional(int("pass"))).await?;
        // Two parts of a table both have a first block.
        let old = Index::drop()
            .name("uq_batch_rotation_id_pass_table_id_first")
            .table(Alias::new("batch"))
            .to_owned();
        manager.drop_index(old).await?;
        let place = [
            "rotation_id",
            "pass",
            "table_id",
            "part",
            "part_form",
            "first",
        ];
        index(manager, "batch", &place, true).await
    }
}

async fn add(
    manager: &SchemaManager<'_>,
    table: &'static str,
    mut column: ColumnDef,
) -> Result<(), DbErr> {
    let table = Table::alter()
        .table(Alias::new(table))
        .add_column(&mut column)
        .to_owned();
    manager.alter_table(table).await
}
