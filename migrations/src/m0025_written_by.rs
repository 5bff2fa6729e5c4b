//! Who wrote an audit entry, as the database knows it: the writer cannot name another role.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::table::*;

/// A trigger and no default: it also holds for roles that may insert any column, and for older programs.
const STAMP: &str = "
    CREATE FUNCTION rekey_stamp_audit_entry() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS
        $$ BEGIN NEW.written_by := current_user; RETURN NEW; END $$;
    CREATE TRIGGER rekey_stamp BEFORE INSERT ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION rekey_stamp_audit_entry()";

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A SQLite file has no users. Entries from before stay without.
        add(manager, "audit_entry", optional(text("written_by"))).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(STAMP).await?;
        }
        Ok(())
    }
}
