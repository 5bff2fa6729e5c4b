//! Guards in the database, row by row: which role may move a rotation where, end a batch, make a key that signs, or
//! lower what should only rise.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::table::*;

/// A role that may insert a census completes rotations; one that may write details again re-encrypts. Roles are
/// recognised by these rights, as they may have any name. The owner of the tables, and a role that does every worker's
/// work, may do all of it.
const GUARDS: &str = "
    CREATE FUNCTION rekey_is_rotator() RETURNS boolean LANGUAGE sql STABLE AS
        $$ SELECT has_table_privilege(current_user, 'census', 'INSERT') $$;
    CREATE FUNCTION rekey_is_re_encryptor() RETURNS boolean LANGUAGE sql STABLE AS
        $$ SELECT has_column_privilege(current_user, 'audit_detail', 'details', 'UPDATE') $$;

    CREATE OR REPLACE FUNCTION rekey_guard_new_rotation() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.state IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED') OR NEW.certificate IS NOT NULL
            OR NEW.certificate_jws IS NOT NULL OR NEW.certificate_due IS NOT NULL OR NEW.totals IS NOT NULL THEN
            RAISE EXCEPTION 'a rotation begins at its beginning' USING ERRCODE = '42501';
        END IF;
        IF NOT rekey_is_rotator() AND (NEW.kind <> 'sweep' OR NEW.state <> 'VERIFYING' OR NEW.planned
            OR NEW.pass <> 0 OR NEW.plan_table <> 0 OR NEW.plan_part IS NOT NULL OR NEW.plan_after IS NOT NULL
            OR NEW.pass_columns IS NOT NULL OR NEW.switched_at IS NOT NULL OR NEW.ended_at IS NOT NULL
            OR NEW.fences IS NOT NULL OR NEW.previous_key_id IS NOT NULL OR abs(extract(epoch FROM now() - NEW.requested_at)) > 600
            OR NEW.target_key_id IS DISTINCT FROM (SELECT primary_key_id FROM keyring WHERE id = NEW.keyring_id)) THEN
            RAISE EXCEPTION 'a rotation begins at its beginning' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE FUNCTION rekey_guard_rotation() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        reset boolean := NOT NEW.planned AND NEW.plan_table = 0 AND NEW.plan_part IS NULL AND NEW.plan_after IS NULL;
        cancels boolean := NEW.state = 'CANCELLED' AND OLD.state NOT IN ('COMPLETED', 'CANCELLED', 'SUPERSEDED');
    BEGIN
        IF rekey_is_rotator() THEN RETURN NEW; END IF;
        IF NEW.state <> OLD.state AND NOT (cancels
            OR OLD.state = 'FAILED' AND NEW.state = CASE WHEN OLD.kind <> 'sweep' AND OLD.pass = 0
                THEN 'RE_ENCRYPTING' ELSE 'VERIFYING' END
            OR NEW.state = 'SUPERSEDED' AND OLD.kind = 'sweep' AND OLD.state IN ('GRACE', 'VERIFYING', 'FAILED')) THEN
            RAISE EXCEPTION 'only the rotator moves a rotation from % to %', OLD.state, NEW.state USING ERRCODE = '42501';
        END IF;
        IF NEW.pass <> OLD.pass AND (NEW.pass <> OLD.pass + 1 OR NOT reset) THEN
            RAISE EXCEPTION 'a pass is followed by the next, which is planned anew' USING ERRCODE = '42501';
        END IF;
        IF (NEW.planned, NEW.plan_table, NEW.plan_part, NEW.plan_after)
            IS DISTINCT FROM (OLD.planned, OLD.plan_table, OLD.plan_part, OLD.plan_after) AND NOT reset
            OR NEW.pass_columns IS DISTINCT FROM OLD.pass_columns AND NEW.pass_columns IS NOT NULL
            OR NEW.sweep_columns IS DISTINCT FROM OLD.sweep_columns THEN
            RAISE EXCEPTION 'only the rotator plans' USING ERRCODE = '42501';
        END IF;
        IF NEW.due_at IS DISTINCT FROM OLD.due_at AND NOT (NEW.due_at IS NULL AND (cancels OR NEW.pass <> OLD.pass))
            OR NEW.ended_at IS DISTINCT FROM OLD.ended_at AND NEW.state = OLD.state THEN
            RAISE EXCEPTION 'only the rotator says when a rotation may go on and when it ended' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE OR REPLACE FUNCTION rekey_guard_totals() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.totals IS NOT NULL AND OLD.totals IS DISTINCT FROM NEW.totals
            AND OLD.state NOT IN ('COMPLETED', 'CANCELLED', 'SUPERSEDED') THEN
            RAISE EXCEPTION 'totals are of a rotation that is over' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;
    CREATE OR REPLACE FUNCTION rekey_guard_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT state FROM rotation WHERE id = OLD.rotation_id)
            NOT IN ('COMPLETED', 'CANCELLED', 'SUPERSEDED') THEN
            RAISE EXCEPTION 'batches stay until their rotation is over' USING ERRCODE = '42501';
        END IF;
        RETURN OLD; END $$;

    CREATE FUNCTION rekey_guard_batch_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.state = OLD.state THEN RETURN NEW; END IF;
        IF OLD.state = 'DONE' OR OLD.state IN ('FAILED', 'VOID') AND NEW.state <> 'PLANNED'
            OR OLD.state = 'VOID' AND NOT rekey_is_rotator() OR NEW.state IN ('DONE', 'VOID') AND NOT rekey_is_re_encryptor() THEN
            RAISE EXCEPTION 'a batch is done by who did it' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE FUNCTION rekey_guard_new_key() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.version < 1 THEN
            RAISE EXCEPTION 'versions of keys begin at 1' USING ERRCODE = '42501';
        END IF;
        IF NEW.algorithm = 'Ed25519' AND NOT rekey_is_rotator()
            AND (SELECT count(*) FROM key WHERE keyring_id = NEW.keyring_id) > 1 THEN
            RAISE EXCEPTION 'only the rotator makes keys that sign, but for the first two' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;
    CREATE FUNCTION rekey_guard_key() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.used < OLD.used OR NEW.used_by_applications < OLD.used_by_applications THEN
            RAISE EXCEPTION 'uses of a key are only added' USING ERRCODE = '42501';
        END IF;
        -- Of which nothing is known, it is as long as any.
        IF NEW.longest_lease < OLD.longest_lease
            OR OLD.longest_lease IS NULL AND NEW.longest_lease IS NOT NULL AND OLD.state <> 'PENDING' THEN
            RAISE EXCEPTION 'the longest lease of a key only grows' USING ERRCODE = '42501';
        END IF;
        IF NOT rekey_is_rotator() AND (
            NEW.activated_at IS DISTINCT FROM OLD.activated_at
                AND (OLD.activated_at IS NOT NULL OR abs(extract(epoch FROM now() - NEW.activated_at)) > 600)
            OR NEW.deactivated_at IS DISTINCT FROM OLD.deactivated_at
                AND (OLD.deactivated_at IS NOT NULL OR abs(extract(epoch FROM now() - NEW.deactivated_at)) > 600)) THEN
            RAISE EXCEPTION 'what happened to a key is dated when it happens' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE FUNCTION rekey_guard_keyring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.primary_key_id IS DISTINCT FROM OLD.primary_key_id
            AND OLD.primary_key_id IS NOT NULL AND NOT rekey_is_rotator() THEN
            RAISE EXCEPTION 'only the rotator replaces a primary key' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;
    CREATE FUNCTION rekey_guard_column() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM rotation WHERE keyring_id = OLD.keyring_id AND state IN
            ('REQUESTED', 'DISTRIBUTING', 'RE_ENCRYPTING', 'GRACE', 'VERIFYING')) THEN
            RAISE EXCEPTION 'a column is released while no rotation works on it' USING ERRCODE = '42501';
        END IF;
        RETURN OLD; END $$;

    CREATE FUNCTION rekey_guard_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.sequence IS DISTINCT FROM (SELECT sequence + 1 FROM audit_head WHERE id = 1) THEN
            RAISE EXCEPTION 'an audit entry follows the last' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE TRIGGER rekey_guard_update BEFORE UPDATE ON rotation
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_rotation();
    CREATE TRIGGER rekey_guard_state BEFORE UPDATE OF state ON batch
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_batch_state();
    CREATE TRIGGER rekey_guard BEFORE INSERT ON key
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_new_key();
    CREATE TRIGGER rekey_guard_update BEFORE UPDATE ON key
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_key();
    CREATE TRIGGER rekey_guard BEFORE UPDATE OF primary_key_id ON keyring
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_keyring();
    CREATE TRIGGER rekey_guard BEFORE DELETE ON protected_column
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_column();
    CREATE TRIGGER rekey_guard BEFORE INSERT ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION rekey_guard_audit_entry();
    ALTER TABLE rotation ENABLE ALWAYS TRIGGER rekey_guard_update;
    ALTER TABLE batch ENABLE ALWAYS TRIGGER rekey_guard_state;
    ALTER TABLE key ENABLE ALWAYS TRIGGER rekey_guard;
    ALTER TABLE key ENABLE ALWAYS TRIGGER rekey_guard_update;
    ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER rekey_guard;
    ALTER TABLE keyring ENABLE ALWAYS TRIGGER rekey_guard;
    ALTER TABLE protected_column ENABLE ALWAYS TRIGGER rekey_guard;

    DO $$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY['rekey_is_rotator', 'rekey_is_re_encryptor', 'rekey_guard_new_rotation',
            'rekey_guard_rotation', 'rekey_guard_totals', 'rekey_guard_batch', 'rekey_guard_batch_state',
            'rekey_guard_new_key', 'rekey_guard_key', 'rekey_guard_keyring', 'rekey_guard_column',
            'rekey_guard_audit_entry'] LOOP
            EXECUTE format('ALTER FUNCTION %I() SET search_path = pg_catalog, %I, pg_temp', name, current_schema());
        END LOOP; END $$";

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "protected_column", optional(text("identity"))).await?;
        add(manager, "census", optional(text("place"))).await?;
        // A SQLite file has no roles.
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(GUARDS).await?;
        }
        Ok(())
    }
}
