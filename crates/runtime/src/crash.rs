//! Named crash points: where a test may have the process die, in debug builds only.

/// Every crash point; a test kills the process at each and fails if one is never reached.
pub const POINTS: &[&str] = &[
    "worker.received",
    "worker.handled",
    "worker.failed",
    "scheduler.leading",
    "scheduler.due",
    "scheduler.fired",
    "rotator.requested",
    "rotator.standby-generated",
    "rotator.standby-stored",
    "rotator.distributed",
    "rotator.before-switch",
    "rotator.switched",
    "rotator.counted-before",
    "rotator.planned",
    "rotator.grace",
    "rotator.verifying",
    "rotator.counted",
    "rotator.completed",
    "re-encryptor.leased",
    "re-encryptor.read",
    "re-encryptor.encrypted",
    "re-encryptor.written",
    "re-encryptor.verified",
    "re-encryptor.done",
    "notifier.sent",
    "backup.sealed",
    "backup.stored",
    "backup.listed",
    "backup.proved",
    "backup.noted",
    "checkpoint.states",
    "checkpoint.stored",
    "checkpoint.suspended",
    "restore.filled",
    "restore.primaries",
    "reconcile.restored",
    "reconcile.primaries",
];

/// Dies here, as by `kill -9`, if `REKEY_CRASH_AT` is `point`, or `point:n` at the n-th passing.
pub fn point(point: &str) {
    debug_assert!(
        POINTS.contains(&point),
        "crash point {point} is not in POINTS"
    );
    #[cfg(debug_assertions)]
    armed::check(point);
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    struct Armed {
        point: String,
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let setting = std::env::var("REKEY_CRASH_AT").ok()?;
        let (point, passing) = setting.split_once(':').unwrap_or((&setting, "1"));
        Some(Armed {
            point: point.to_owned(),
            left: AtomicU32::new(passing.parse().ok()?),
        })
    });

    pub fn check(point: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}
