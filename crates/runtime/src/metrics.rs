//! The names of all metrics, and the recorder that `/metrics` is rendered from.
//!
//! Labels are few and of few values: never a row, a person or a key's name from outside.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Values written under the target key of a rotation.
pub const VALUES_MOVED: &str = "rekey_values_moved_total";
/// Rows that the application changed between our read and our write.
pub const ROW_CONFLICTS: &str = "rekey_row_conflicts_total";
/// Values left as they were, with a reason.
pub const VALUES_QUARANTINED: &str = "rekey_values_quarantined_total";
/// Batches that ended, by `outcome`: `done` or `failed`.
pub const BATCHES: &str = "rekey_batches_total";
/// Attempts of a `handler` that failed and are made again.
pub const RETRIES: &str = "rekey_retries_total";
/// Messages of a `handler` that were given up.
pub const DEAD_LETTERS: &str = "rekey_dead_letters_total";
/// Messages that wait in the outbox.
pub const OUTBOX_DEPTH: &str = "rekey_outbox_depth";
/// How long the oldest message that is due has waited in the outbox, in seconds.
pub const OUTBOX_AGE: &str = "rekey_outbox_age_seconds";
/// Messages that wait in a `queue` of the broker.
pub const QUEUE_DEPTH: &str = "rekey_queue_depth";
/// The longest time that a lease of a `kind` went without renewal, in seconds.
pub const LEASE_AGE: &str = "rekey_lease_age_seconds";
/// Requests to the KMS, by `operation`.
pub const KMS_CALLS: &str = "rekey_kms_calls_total";
/// Requests to the KMS that failed, by `operation`.
pub const KMS_ERRORS: &str = "rekey_kms_errors_total";
/// Rotations by `state`.
pub const ROTATIONS: &str = "rekey_rotations";
/// Rotations that are on hold: a person is needed.
pub const ROTATIONS_PAUSED: &str = "rekey_rotations_paused";

/// Starts recording; what was counted before is lost. `None` where another recorder was first.
pub fn record() -> Option<PrometheusHandle> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).ok()?;
    describe();
    Some(handle)
}

fn describe() {
    for (name, text) in [
        (VALUES_MOVED, "Values written under the target key"),
        (
            ROW_CONFLICTS,
            "Rows the application changed under our hands",
        ),
        (
            VALUES_QUARANTINED,
            "Values left as they were, with a reason",
        ),
        (BATCHES, "Batches that ended"),
        (RETRIES, "Attempts that failed and are made again"),
        (DEAD_LETTERS, "Messages that were given up"),
        (KMS_CALLS, "Requests to the KMS"),
        (KMS_ERRORS, "Requests to the KMS that failed"),
    ] {
        ::metrics::describe_counter!(name, text);
    }
    for (name, text) in [
        (OUTBOX_DEPTH, "Messages that wait in the outbox"),
        (OUTBOX_AGE, "Seconds the oldest due message has waited"),
        (QUEUE_DEPTH, "Messages that wait in a queue of the broker"),
        (LEASE_AGE, "Seconds since a lease was renewed, at most"),
        (ROTATIONS, "Rotations by state"),
        (ROTATIONS_PAUSED, "Rotations that are on hold"),
    ] {
        ::metrics::describe_gauge!(name, text);
    }
}
