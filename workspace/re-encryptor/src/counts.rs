//! Monitoring counts what batches did.

use rekey_runtime::metrics as metric;
use rekey_store::progress::Tally;

/// Starts the counters at zero, so that they exist before anything is done.
pub fn count_from_zero() {
    for name in [
        metric::VALUES_MOVED,
        metric::ROW_CONFLICTS,
        metric::VALUES_QUARANTINED,
    ] {
        metrics::counter!(name).increment(0);
    }
    for outcome in ["done", "failed"] {
        metrics::counter!(metric::BATCHES, "outcome" => outcome).increment(0);
    }
}

/// Counts what was done of a batch.
pub fn count_moved(tally: &Tally) {
    metrics::counter!(metric::VALUES_MOVED).increment(tally.moved);
    metrics::counter!(metric::ROW_CONFLICTS).increment(tally.conflicts);
    metrics::counter!(metric::VALUES_QUARANTINED).increment(tally.quarantined);
}

/// Counts a batch that ended, and what it did.
pub fn count(tally: &Tally, outcome: &'static str) {
    count_moved(tally);
    metrics::counter!(metric::BATCHES, "outcome" => outcome).increment(1);
}
