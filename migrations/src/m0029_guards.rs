//! What a pass covers and met; and what the database keeps from roles that may write a table, but not this.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::table::*;

/// Without them, a role that may insert rotations, remove batches or write totals could make a certificate say what
/// never happened. A role that may suppress triggers at a source on the same server cannot suppress these.
const GUARDS: &str = "
    CREATE FUNCTION rekey_guard_new_rotation() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        IF NEW.state IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED') OR NEW.certificate IS NOT NULL
            OR NEW.certificate_jws IS NOT NULL OR NEW.certificate_due IS NOT NULL OR NEW.totals IS NOT NULL THEN
            RAISE EXCEPTION 'a rotation begins at its beginning' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;
    CREATE FUNCTION rekey_guard_totals() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        IF NEW.totals IS NOT NULL AND OLD.totals IS DISTINCT FROM NEW.totals
            AND OLD.state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED') THEN
            RAISE EXCEPTION 'totals are of a rotation that is over' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;
    CREATE FUNCTION rekey_guard_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT state FROM rotation WHERE id = OLD.rotation_id)
            NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED') THEN
            RAISE EXCEPTION 'batches stay until their rotation is over' USING ERRCODE = '42501';
        END IF;
        RETURN OLD; END $$;
    CREATE TRIGGER rekey_guard BEFORE INSERT ON rotation
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_new_rotation();
    CREATE TRIGGER rekey_guard_totals BEFORE UPDATE OF totals ON rotation
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_totals();
    CREATE TRIGGER rekey_guard BEFORE DELETE ON batch
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_batch();
    DO $$ BEGIN EXECUTE format('ALTER FUNCTION rekey_guard_batch() SET search_path = %I, pg_temp', current_schema()); END $$;
    ALTER TABLE rotation ENABLE ALWAYS TRIGGER rekey_guard;
    ALTER TABLE rotation ENABLE ALWAYS TRIGGER rekey_guard_totals;
    ALTER TABLE batch ENABLE ALWAYS TRIGGER rekey_guard;
    ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER rekey_stamp";

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "rotation", optional(text("pass_columns"))).await?;
        add(manager, "rotation", optional(boolean("stood_out"))).await?;
        let met = vec![
            uuid("rotation_id"),
            int("pass"),
            uuid("column_id"),
            bigint("seen"),
        ];
        create(manager, "met", met).await?;
        index(manager, "met", &["rotation_id", "pass", "column_id"], true).await?;
        // A SQLite file has no roles.
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(GUARDS).await?;
        }
        Ok(())
    }
}
