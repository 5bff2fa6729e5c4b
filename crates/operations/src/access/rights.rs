//! What each worker and the command line do with the store's tables, column by column.

use rekey_store::rights::Right;

use rekey_domain::{Role, Worker};

/// Every worker reads these, leases work and ships its messages.
const EVERY: [(&str, &str); 7] = [
    ("seaql_migrations", "SELECT"),
    ("deployment", "SELECT"),
    ("keyring", "SELECT"),
    ("rotation", "SELECT"),
    ("batch", "SELECT"),
    (
        "lease",
        "SELECT, INSERT, DELETE, UPDATE (token, holder, until)",
    ),
    (
        "outbox",
        "SELECT, INSERT, DELETE, UPDATE (available_at, leased_until, lease_token)",
    ),
];

/// Who works gives signs of life.
const LIVES: [(&str, &str); 1] = [(
    "heartbeat",
    "SELECT, INSERT, DELETE, UPDATE (seen_at, lacks, misses)",
)];

/// What is known of keys without what the KMS opens.
const KEY_FACTS: &str = "SELECT (key_id, keyring_id, version, state, algorithm, used, used_by_applications, created_at, activated_at, deactivated_at, expires_at, master_key, public_key, longest_lease, leases_end_at, reported_at, compromised_since, emptied_at, closed_at)";

/// Who reads off the rows what people are told of.
const WATCHES: [(&str, &str); 15] = [
    ("checkpoint", "SELECT"),
    ("reported_master_key", "SELECT"),
    ("deployment_backup", "SELECT"),
    ("destination", "SELECT"),
    ("backup", "SELECT"),
    ("drill", "SELECT"),
    ("incident", "SELECT (id, key_id)"),
    ("key", KEY_FACTS),
    ("heartbeat", "SELECT"),
    ("straggler_look", "SELECT"),
    ("dead_letter", "SELECT"),
    (
        "quarantine",
        "SELECT (id, column_id, found_key_id, resolved_at)",
    ),
    ("source", "SELECT (name)"),
    ("protected_column", "SELECT (id, keyring_id)"),
    (
        "alert",
        "SELECT, INSERT, UPDATE (incident_id, figure, severity, raised_at, acknowledged_by, acknowledged_at, cleared_at)",
    ),
];

/// Who tells them.
const NOTIFIER: [(&str, &str); 3] = [
    ("incident", "SELECT"),
    (
        "channel",
        "SELECT, UPDATE (disabled_at, failure, failing_since)",
    ),
    (
        "delivery",
        "SELECT, INSERT, DELETE, UPDATE (state, due_at, attempts, first_attempt_at, last_attempt_at, settled_at, failure, digest_id, answers)",
    ),
];

const SCHEDULER: [(&str, &str); 7] = [
    ("channel", "SELECT"),
    ("schedule", "SELECT, INSERT, UPDATE (fired_up_to)"),
    ("delivery", "SELECT"),
    ("rotation", "UPDATE (resend_at, certificate_due, totals)"),
    ("batch", "DELETE, UPDATE (resend_at)"),
    ("inbox", "SELECT, DELETE"),
    ("dead_letter", "UPDATE (dismissed_at)"),
];

/// Who handles messages and uses keys: each effect once, each use counted and audited.
const USES_KEYS: [(&str, &str); 10] = [
    ("key", "SELECT"),
    ("inbox", "SELECT, INSERT"),
    ("dead_letter", "SELECT, INSERT"),
    ("source", "SELECT"),
    ("source_table", "SELECT"),
    ("protected_column", "SELECT"),
    ("quarantine", "SELECT"),
    ("audit_entry", "SELECT, INSERT"),
    ("audit_detail", "INSERT"),
    ("audit_head", "SELECT, INSERT, UPDATE (sequence, hash)"),
];

const ROTATOR: [(&str, &str); 17] = [
    ("backup_request", "SELECT, INSERT, UPDATE (wanted_at)"),
    ("reported_master_key", "SELECT"),
    ("destination", "SELECT"),
    ("backup", "SELECT"),
    ("drill", "SELECT"),
    (
        "incident",
        "SELECT, INSERT, UPDATE (rotation_id, acted_at, machine_acted_at, since, exposure)",
    ),
    (
        "alert",
        "SELECT, INSERT, UPDATE (incident_id, figure, severity, raised_at, acknowledged_by, acknowledged_at, cleared_at)",
    ),
    ("keyring", "UPDATE (primary_key_id)"),
    (
        "key",
        "INSERT, UPDATE (state, used, used_by_applications, activated_at, deactivated_at, expires_at, longest_lease, leases_end_at, reported_at, compromised_since, emptied_at, closed_at)",
    ),
    ("rotation", "INSERT, UPDATE"),
    ("rotation_request", "SELECT, INSERT, UPDATE (rotation_id)"),
    (
        "batch",
        "INSERT, UPDATE (state, resend_at, failure, ended_at, led_by)",
    ),
    ("census", "SELECT, INSERT"),
    (
        "straggler_look",
        "SELECT, INSERT, UPDATE (looked_at, stragglers, unknown_keys, failure, columns)",
    ),
    ("quarantine", "UPDATE (resolved_at, rotation_id, pass)"),
    ("reopened", "SELECT, DELETE"),
    ("audit_detail", "SELECT (sequence, details)"),
];

const RE_ENCRYPTOR: [(&str, &str); 9] = [
    ("key", "UPDATE (used, used_by_applications, emptied_at)"),
    ("alert", "SELECT, UPDATE (cleared_at)"),
    (
        "rotation",
        "UPDATE (resend_at, paused, paused_because, pause_after, stood_out)",
    ),
    (
        "batch",
        "UPDATE (state, resend_at, rows_moved, moved, conflicts, quarantined, opened, failure, ended_at, waiting_because, waiting_since, in_doubt, led_by)",
    ),
    (
        "quarantine",
        "INSERT, UPDATE (rotation_id, pass, found_key_id, reason, found_at, resolved_at, row_name, detail, word, released_at, whole)",
    ),
    ("audit_detail", "SELECT, UPDATE (details)"),
    ("pace", "SELECT, INSERT, UPDATE (owed, as_of)"),
    ("met", "SELECT, INSERT, UPDATE (seen)"),
    ("reopened", "SELECT, INSERT"),
];

/// Who backs keys up and proves it: bundles are noted, never forgotten.
const BACKUP_VERIFIER: [(&str, &str); 11] = [
    (
        "checkpoint",
        "SELECT, INSERT, UPDATE (counter, sha256, sequence, hash, states, written_at, problem, failing_since)",
    ),
    ("deployment", "UPDATE (suspended_because, suspended_at)"),
    ("channel", "SELECT"),
    (
        "deployment_backup",
        "SELECT, INSERT, UPDATE (name, contents, backup_key_id, recovery, stored_at, confirmed_at, proved_at, tried_at, problem, times)",
    ),
    ("audit_detail", "SELECT (sequence, details)"),
    ("key", "UPDATE (used, used_by_applications)"),
    (
        "backup",
        "SELECT, INSERT, UPDATE (confirmed_at, key_id, backup_key_id, recovery)",
    ),
    (
        "drill",
        "SELECT, INSERT, DELETE, UPDATE (last_at, times, millis, opened)",
    ),
    (
        "destination",
        "SELECT, UPDATE (erasable, probed_at, mark, here_since)",
    ),
    ("backup_request", "SELECT"),
    ("recovery_key", "SELECT"),
];

/// The command line: it makes and applies, shows everything, and steers. Migrating is the owner's.
const OPERATOR: [(&str, &str); 31] = [
    (
        "checkpoint",
        "SELECT, INSERT, UPDATE (counter, sha256, sequence, hash, states, written_at, problem, failing_since)",
    ),
    (
        "deployment_backup",
        "SELECT, INSERT, UPDATE (name, contents, backup_key_id, recovery, stored_at, confirmed_at, proved_at, tried_at, problem, times)",
    ),
    ("reported_master_key", "SELECT, INSERT"),
    (
        "destination",
        "SELECT, INSERT, DELETE, UPDATE (mark, here_since)",
    ),
    (
        "backup",
        "SELECT, INSERT, DELETE, UPDATE (confirmed_at, key_id, backup_key_id, recovery)",
    ),
    (
        "drill",
        "SELECT, INSERT, DELETE, UPDATE (last_at, times, millis, opened)",
    ),
    ("backup_request", "SELECT, INSERT, UPDATE (wanted_at)"),
    ("recovery_key", "SELECT, INSERT"),
    (
        "incident",
        "SELECT, INSERT, UPDATE (rotation_id, acted_at, machine_acted_at, since, exposure, state, acknowledged_by, acknowledged_at, resolved_by, resolved_at)",
    ),
    (
        "alert",
        "SELECT, INSERT, UPDATE (incident_id, figure, severity, raised_at, acknowledged_by, acknowledged_at, cleared_at)",
    ),
    (
        "channel",
        "SELECT, INSERT, DELETE, UPDATE (kind, policy, disabled_at)",
    ),
    ("delivery", "SELECT, INSERT"),
    (
        "deployment",
        "INSERT, UPDATE (suspended_because, suspended_at)",
    ),
    ("heartbeat", "SELECT"),
    (
        "keyring",
        "INSERT, UPDATE (primary_key_id, algorithm, policy)",
    ),
    (
        "key",
        "SELECT, INSERT, UPDATE (state, used, used_by_applications, activated_at, deactivated_at, expires_at, longest_lease, wrapped, master_key, reported_at, compromised_since, emptied_at)",
    ),
    (
        "rotation",
        "INSERT, UPDATE (state, resend_at, paused, paused_because, resumptions, urgent, incident_id, target_key_id, previous_key_id, switched_at, unknown_keys_accepted, pause_after, only_column, sweep_columns, cancelled_because, due_at, failure, ended_at, pass, pass_columns, late_pass, fences, planned, plan_table, plan_part, plan_after)",
    ),
    ("batch", "UPDATE (state, resend_at, failure, led_by)"),
    ("rotation_request", "SELECT"),
    ("inbox", "SELECT, INSERT"),
    ("dead_letter", "SELECT, UPDATE (retried_at, dismissed_at)"),
    (
        "source",
        "SELECT, INSERT, UPDATE (url, limits, database_id)",
    ),
    (
        "source_table",
        "SELECT, INSERT, UPDATE (name, relation, triggers, publications_accepted, oid)",
    ),
    (
        "protected_column",
        "SELECT, INSERT, UPDATE (name, bind, bind_columns, bind_types, bind_lengths, encoding, identity), DELETE",
    ),
    ("quarantine", "SELECT, UPDATE (resolved_at, released_at)"),
    ("census", "SELECT"),
    ("schedule", "SELECT"),
    ("straggler_look", "SELECT"),
    ("audit_entry", "SELECT, INSERT"),
    ("audit_detail", "SELECT, INSERT"),
    ("audit_head", "SELECT, INSERT, UPDATE (sequence, hash)"),
];

/// Their rows are read and written in place, as any source's are: protected tables of the store itself.
const IN_PLACE: [(&str, &str); 2] = [
    ("audit_detail", "SELECT (ctid)"),
    ("quarantine", "SELECT (ctid)"),
];

/// Tables, each with what is done there.
fn of(who: Role) -> Vec<(&'static str, &'static str)> {
    let own: [&[(&str, &str)]; 5] = match who {
        Role::Worker(Worker::Scheduler) => [&EVERY, &LIVES, &SCHEDULER, &WATCHES, &[]],
        Role::Worker(Worker::Rotator) => [&EVERY, &LIVES, &USES_KEYS, &ROTATOR, &IN_PLACE],
        Role::Worker(Worker::ReEncryptor) => [&EVERY, &LIVES, &USES_KEYS, &RE_ENCRYPTOR, &IN_PLACE],
        Role::Worker(Worker::IncidentNotifier) => [&EVERY, &LIVES, &NOTIFIER, &WATCHES, &[]],
        Role::Worker(Worker::BackupVerifier) => {
            [&EVERY, &LIVES, &USES_KEYS, &BACKUP_VERIFIER, &IN_PLACE]
        }
        Role::Operator => [&EVERY, &OPERATOR, &IN_PLACE, &[], &[]],
    };
    own.concat()
}

/// A right that only this role is granted: whoever has it is this role, or may do more.
pub fn only_of(who: Role) -> Option<Right> {
    let (table, privilege, columns) = match who {
        Role::Worker(Worker::Scheduler | Worker::IncidentNotifier) => return None,
        Role::Worker(Worker::BackupVerifier) => ("destination", "UPDATE", vec!["erasable"]),
        Role::Worker(Worker::Rotator) => ("census", "INSERT", Vec::new()),
        Role::Worker(Worker::ReEncryptor) => ("audit_detail", "UPDATE", vec!["details"]),
        Role::Operator => ("deployment", "INSERT", Vec::new()),
    };
    Some(Right {
        table,
        privilege,
        columns,
    })
}

/// Rights on whole tables that older programs needed; today some columns are enough.
const FORMER: [(Role, &str, &str); 1] = [(Role::Worker(Worker::Scheduler), "key", "SELECT")];

/// The statements that take those rights back. Revoking a right on a table also revokes it on columns, so the remaining
/// rights are granted again in the same string.
pub fn revokes(who: Role, role: &str, schema: &str) -> Vec<String> {
    let (role, schema) = (quote(role), quote(schema));
    let former = FORMER.iter().filter(|(whose, ..)| *whose == who);
    let revoke = |(_, table, rights): &(Role, &str, &str)| {
        let left = of(who).into_iter().filter(|(of, _)| of == table);
        let left = left.map(|(_, right)| right).collect::<Vec<_>>().join(", ");
        let on = format!("{schema}.{}", quote(table));
        format!("REVOKE {rights} ON {on} FROM {role}; GRANT {left} ON {on} TO {role};")
    };
    former.map(revoke).collect()
}

/// The statements for a role, in the schema where the store is.
pub fn statements(who: Role, role: &str, schema: &str) -> Vec<String> {
    let (role, schema) = (quote(role), quote(schema));
    let usage = format!("GRANT USAGE ON SCHEMA {schema} TO {role};");
    let on = |(table, rights): (&str, &str)| {
        format!("GRANT {rights} ON {schema}.{} TO {role};", quote(table))
    };
    let tables = of(who).into_iter().map(on);
    [usage].into_iter().chain(tables).collect()
}

/// The same, right by right.
pub fn rights(who: Role) -> Vec<Right> {
    let of_table = |(table, rights): (&'static str, &'static str)| {
        let each = split(rights);
        each.into_iter().map(move |(privilege, columns)| Right {
            table,
            privilege,
            columns,
        })
    };
    of(who).into_iter().flat_map(of_table).collect()
}

/// `SELECT, UPDATE (state, used)`, privilege by privilege.
fn split(mut rights: &str) -> Vec<(&str, Vec<&str>)> {
    let mut each = Vec::new();
    while !rights.is_empty() {
        let end = rights.find([',', '(']).unwrap_or(rights.len());
        let (privilege, rest) = rights.split_at(end);
        let listed = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (columns, rest) = listed.unwrap_or(("", rest));
        let columns = columns.split(", ").filter(|column| !column.is_empty());
        each.push((privilege.trim(), columns.collect()));
        rights = rest.trim_start_matches([',', ' ']);
    }
    each
}

/// A name as SQL writes it, whatever is in it.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_split_as_sql_lists_them() {
        let found = split("SELECT, INSERT, UPDATE (state, used), DELETE");
        let none = Vec::new;
        let expected = [
            ("SELECT", none()),
            ("INSERT", none()),
            ("UPDATE", vec!["state", "used"]),
            ("DELETE", none()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_only_ones_is_granted_to_nobody_else() {
        for who in Role::ALL {
            let Some(only) = only_of(who) else { continue };
            for other in Role::ALL {
                let has = rights(other).iter().any(|right| {
                    let of_all = right.columns.is_empty();
                    let is_in = |column| right.columns.contains(column);
                    (right.table, right.privilege) == (only.table, only.privilege)
                        && (of_all || !only.columns.is_empty() && only.columns.iter().all(is_in))
                });
                assert_eq!(has, other == who, "{only:?} of {}", other.name());
            }
        }
    }

    #[test]
    fn the_scheduler_reads_no_wrapped_key() {
        let scheduler = rights(Worker::Scheduler.into());
        let of_keys = scheduler.iter().filter(|right| right.table == "key");
        for right in of_keys {
            let none = ["wrapped", "check_value"].map(|column| right.columns.contains(&column));
            assert!(
                !right.columns.is_empty() && none == [false, false],
                "{right:?}"
            );
        }
    }

    #[test]
    fn every_right_is_one_that_there_is() {
        for right in Role::ALL.into_iter().flat_map(rights) {
            let known = ["SELECT", "INSERT", "UPDATE", "DELETE"];
            assert!(known.contains(&right.privilege), "{right:?}");
        }
    }
}
