//! Compromised keys whose values were moved, and what is found under them later; reasons that older programs do not read; what whoever reports a key may do.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::table::*;

/// A report is answered in its own transaction, whoever makes it: the primary key is replaced, and what is under way
/// ends or hurries. Only while its incident is open, and in no other way. Roles that may not read incidents change
/// rotations too, so the look is the owner's.
const GUARDS: &str = "
    CREATE FUNCTION rekey_is_emergency(keyring uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS
        $$ SELECT EXISTS (SELECT FROM incident i WHERE i.keyring_id = keyring AND i.resolved_at IS NULL) $$;

    CREATE OR REPLACE FUNCTION rekey_guard_new_rotation() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        sweeps boolean := NEW.kind = 'sweep' AND NEW.state = 'VERIFYING' AND NEW.target_key_id IS NOT DISTINCT FROM
            (SELECT primary_key_id FROM keyring WHERE id = NEW.keyring_id);
        replaces boolean := NEW.kind <> 'sweep' AND NEW.state = 'REQUESTED' AND NEW.target_key_id IS NULL
            AND NEW.incident_id IS NOT NULL AND rekey_is_emergency(NEW.keyring_id);
    BEGIN
        IF NEW.state IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SUPERSEDED') OR NEW.certificate IS NOT NULL
            OR NEW.certificate_jws IS NOT NULL OR NEW.certificate_due IS NOT NULL OR NEW.totals IS NOT NULL THEN
            RAISE EXCEPTION 'a rotation begins at its beginning' USING ERRCODE = '42501';
        END IF;
        IF NOT rekey_is_rotator() AND (NOT (sweeps OR replaces) OR NEW.planned
            OR NEW.pass <> 0 OR NEW.plan_table <> 0 OR NEW.plan_part IS NOT NULL OR NEW.plan_after IS NOT NULL
            OR NEW.pass_columns IS NOT NULL OR NEW.switched_at IS NOT NULL OR NEW.ended_at IS NOT NULL
            OR NEW.fences IS NOT NULL OR NEW.late_pass IS NOT NULL OR NEW.previous_key_id IS NOT NULL
            OR abs(extract(epoch FROM now() - NEW.requested_at)) > 600) THEN
            RAISE EXCEPTION 'a rotation begins at its beginning' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE OR REPLACE FUNCTION rekey_guard_rotation() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        reset boolean := NOT NEW.planned AND NEW.plan_table = 0 AND NEW.plan_part IS NULL AND NEW.plan_after IS NULL;
        cancels boolean := NEW.state = 'CANCELLED' AND OLD.state NOT IN ('COMPLETED', 'CANCELLED', 'SUPERSEDED');
        answers boolean := rekey_is_emergency(OLD.keyring_id);
    BEGIN
        IF rekey_is_rotator() THEN RETURN NEW; END IF;
        IF NEW.state <> OLD.state AND NOT (cancels
            OR OLD.state = 'FAILED' AND NEW.state = CASE WHEN OLD.kind <> 'sweep' AND OLD.pass = 0
                THEN 'RE_ENCRYPTING' ELSE 'VERIFYING' END
            OR NEW.state = 'SUPERSEDED' AND OLD.kind = 'sweep' AND OLD.state IN ('GRACE', 'VERIFYING', 'FAILED')
            OR answers AND NEW.state = 'SUPERSEDED' AND OLD.state NOT IN ('COMPLETED', 'CANCELLED')
            OR answers AND NEW.state = 'REQUESTED' AND OLD.state = 'DISTRIBUTING'
            OR answers AND NEW.state = 'RE_ENCRYPTING' AND OLD.state = 'REQUESTED' AND OLD.incident_id IS NOT NULL
                AND NEW.target_key_id = (SELECT primary_key_id FROM keyring WHERE id = OLD.keyring_id)) THEN
            RAISE EXCEPTION 'only the rotator moves a rotation from % to %', OLD.state, NEW.state USING ERRCODE = '42501';
        END IF;
        IF NEW.pass <> OLD.pass AND (NEW.pass <> OLD.pass + 1 OR NOT reset) THEN
            RAISE EXCEPTION 'a pass is followed by the next, which is planned anew' USING ERRCODE = '42501';
        END IF;
        IF (NEW.planned, NEW.plan_table, NEW.plan_part, NEW.plan_after)
            IS DISTINCT FROM (OLD.planned, OLD.plan_table, OLD.plan_part, OLD.plan_after) AND NOT reset
            OR NEW.pass_columns IS DISTINCT FROM OLD.pass_columns AND NEW.pass_columns IS NOT NULL
            OR NEW.fences IS DISTINCT FROM OLD.fences AND NEW.fences IS NOT NULL
            OR NEW.late_pass IS DISTINCT FROM OLD.late_pass AND NEW.late_pass IS NOT NULL
            OR NEW.sweep_columns IS DISTINCT FROM OLD.sweep_columns THEN
            RAISE EXCEPTION 'only the rotator plans' USING ERRCODE = '42501';
        END IF;
        IF NEW.due_at IS DISTINCT FROM OLD.due_at
                AND NOT (NEW.due_at IS NULL AND (cancels OR answers OR NEW.pass <> OLD.pass))
            OR NEW.ended_at IS DISTINCT FROM OLD.ended_at AND NEW.state = OLD.state THEN
            RAISE EXCEPTION 'only the rotator says when a rotation may go on and when it ended' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    CREATE OR REPLACE FUNCTION rekey_guard_keyring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.primary_key_id IS DISTINCT FROM OLD.primary_key_id
            AND OLD.primary_key_id IS NOT NULL AND NOT rekey_is_rotator()
            AND NOT (rekey_is_emergency(OLD.id) AND EXISTS (SELECT FROM key WHERE key_id = OLD.primary_key_id
                AND (state = 'COMPROMISED' OR reported_at IS NOT NULL))) THEN
            RAISE EXCEPTION 'only the rotator replaces a primary key' USING ERRCODE = '42501';
        END IF;
        RETURN NEW; END $$;

    DO $$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY['rekey_is_emergency(uuid)', 'rekey_guard_new_rotation()', 'rekey_guard_rotation()',
            'rekey_guard_keyring()'] LOOP
            EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', name, current_schema());
        END LOOP; END $$";

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, "key", optional(time("closed_at"))).await?;
        add(manager, "rotation", optional(int("late_pass"))).await?;
        add(manager, "quarantine", optional(text("word"))).await?;
        add(manager, "quarantine", optional(time("released_at"))).await?;
        add(manager, "quarantine", optional(text("whole"))).await?;
        // A SQLite file has no roles.
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.get_connection().execute_unprepared(GUARDS).await?;
        }
        Ok(())
    }
}
