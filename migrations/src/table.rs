//! Column kinds the migrations share, so that each table reads as a list of names.

use sea_orm_migration::prelude::*;

/// A required UUID.
pub fn uuid(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .uuid()
        .not_null()
        .to_owned()
}

/// The table's UUIDv7 primary key, `id`.
pub fn id() -> ColumnDef {
    uuid("id").primary_key().to_owned()
}

/// A required text.
pub fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .text()
        .not_null()
        .to_owned()
}

/// A required 64-bit integer: a count, a key id, or milliseconds of the database's time.
pub fn bigint(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .big_integer()
        .not_null()
        .to_owned()
}

/// A required 32-bit integer.
pub fn int(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .integer()
        .not_null()
        .to_owned()
}

/// A required truth value.
pub fn boolean(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .boolean()
        .not_null()
        .to_owned()
}

/// Required bytes.
pub fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .blob()
        .not_null()
        .to_owned()
}

/// A required UTC time, by the database's clock. Programs from before decision 0032 wrote their own.
pub fn time(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
        .timestamp_with_time_zone()
        .not_null()
        .to_owned()
}

/// The same column, optional.
pub fn optional(mut column: ColumnDef) -> ColumnDef {
    column.null().to_owned()
}

/// Creates a table of these columns.
pub async fn create(
    manager: &SchemaManager<'_>,
    name: &'static str,
    columns: Vec<ColumnDef>,
) -> Result<(), DbErr> {
    let mut table = Table::create().table(Alias::new(name)).to_owned();
    for mut column in columns {
        table.col(&mut column);
    }
    manager.create_table(table).await
}

/// Adds a column, which must be optional or have a default: rows and older programs do not have it.
pub async fn add(
    manager: &SchemaManager<'_>,
    table: &'static str,
    mut column: ColumnDef,
) -> Result<(), DbErr> {
    let mut change = Table::alter().table(Alias::new(table)).to_owned();
    change.add_column(&mut column);
    manager.alter_table(change).await
}

/// Creates an index; `unique` makes it a rule.
pub async fn index(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: &[&'static str],
    unique: bool,
) -> Result<(), DbErr> {
    let name = format!(
        "{}_{table}_{}",
        if unique { "uq" } else { "ix" },
        columns.join("_")
    );
    let mut index = Index::create()
        .name(name)
        .table(Alias::new(table))
        .to_owned();
    for column in columns {
        index.col(Alias::new(*column));
    }
    if unique {
        index.unique();
    }
    manager.create_index(index).await
}
