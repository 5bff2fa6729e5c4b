//! What each worker does with the store's tables, column by column.

use super::Worker;

/// Every worker reads these, leases work and ships its messages.
const EVERY: [(&str, &str); 8] = [
    ("seaql_migrations", "SELECT"),
    ("deployment", "SELECT"),
    ("keyring", "SELECT"),
    ("key", "SELECT"),
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

const SCHEDULER: [(&str, &str); 4] = [
    ("schedule", "SELECT, INSERT, UPDATE (fired_up_to)"),
    ("rotation", "UPDATE (resend_at)"),
    ("batch", "UPDATE (resend_at)"),
    ("inbox", "SELECT, DELETE"),
];

/// Who handles messages and uses keys: each effect once, each use counted and audited.
const USES_KEYS: [(&str, &str); 9] = [
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

const ROTATOR: [(&str, &str); 7] = [
    ("keyring", "UPDATE (primary_key_id)"),
    (
        "key",
        "INSERT, UPDATE (state, used, used_by_applications, activated_at, deactivated_at, expires_at)",
    ),
    ("rotation", "INSERT, UPDATE"),
    ("rotation_request", "SELECT, INSERT, UPDATE (rotation_id)"),
    (
        "batch",
        "INSERT, UPDATE (state, resend_at, failure, ended_at)",
    ),
    ("census", "SELECT, INSERT"),
    ("audit_detail", "SELECT (sequence, details)"),
];

const RE_ENCRYPTOR: [(&str, &str); 6] = [
    ("key", "UPDATE (used, used_by_applications)"),
    (
        "rotation",
        "UPDATE (resend_at, paused, paused_because, pause_after)",
    ),
    (
        "batch",
        "UPDATE (state, resend_at, rows_moved, moved, conflicts, quarantined, failure, ended_at, waiting_because)",
    ),
    (
        "quarantine",
        "INSERT, UPDATE (rotation_id, pass, found_key_id, reason, found_at, resolved_at)",
    ),
    ("audit_detail", "SELECT, UPDATE (details)"),
    ("pace", "SELECT, INSERT, UPDATE (owed, as_of)"),
];

/// The statements for a worker's role. `audit_detail` is a protected table of the store itself.
pub(super) fn statements(worker: Worker, role: &str) -> Vec<String> {
    let own: Vec<&(&str, &str)> = match worker {
        Worker::Scheduler => EVERY.iter().chain(&SCHEDULER).collect(),
        Worker::Rotator => EVERY.iter().chain(&USES_KEYS).chain(&ROTATOR).collect(),
        Worker::ReEncryptor => EVERY
            .iter()
            .chain(&USES_KEYS)
            .chain(&RE_ENCRYPTOR)
            .collect(),
    };
    let role = quote(role);
    let on =
        |(table, rights): &(&str, &str)| format!("GRANT {rights} ON {} TO {role};", quote(table));
    let mut statements: Vec<String> = own.into_iter().map(on).collect();
    if worker != Worker::Scheduler {
        // Its rows are read and written in place, as any source's are.
        let ctid = format!("GRANT SELECT (ctid) ON \"audit_detail\" TO {role};");
        statements.push(ctid);
    }
    statements
}

/// A name as SQL writes it, whatever is in it.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
