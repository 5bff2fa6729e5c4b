//! Keys, rotations, batches and access: pure rules and state machines.
//!
//! Nothing here does IO, reads a clock or waits: every function takes values, a time where it needs
//! one, and returns values. Words follow NIST SP 800-57 and Tink.

#![cfg_attr(
    test,
    expect(
        clippy::shadow_unrelated,
        reason = "a test looks at one thing again and again"
    )
)]

mod access;
mod backups;
mod incidents;
mod io_words;
mod keys;
mod notifications;
mod rotations;
mod sources;
mod time;

pub use access::{
    allowance::{AT_ONCE, Allowance, EVERY},
    principal::{Principal, PrincipalError, PrincipalKind},
    worker::{Role, Worker},
};
pub use backups::{
    destination::DestinationName,
    drill::{BackupProblem, Drilled, PROOF_LASTS, proof as backup_proof},
    due::{Attempt, BackupStep, Cadence, Kept, due as backup_due},
    erasable::Erasable,
};
pub use incidents::{
    alert::{AlertKind, Severity},
    compromise::{Response, respond, respond_again},
    expiring::expiring,
    incident::{IncidentKind, IncidentState},
};
pub use io_words::io_words;
pub use keys::{
    encrypt_lease::{EncryptLease, KEY_SETTLES, leases_end},
    key::{BackupProof, KeyError, KeyState},
    keyring::{Algorithm, BackupPolicy, KeyringPolicy, OnCompromise, Purpose},
    names::{KeyId, KeyName, KeyRef, KeyringName, NameError},
    usage::{
        FIRST_BLOCK, Forecast, HARD_LIMIT, LARGEST_BLOCK, PLAN_LIMIT, UsageBlock, UsageError,
        forecast, next_block_size, plan_fits, take_block,
    },
};
pub use notifications::{
    again::{GIVEN_UP_AFTER, LONGEST_WAIT, attempt_again},
    answers::Answers,
    channel::{ChannelKind, ChannelName, ChannelPolicy, Topic},
    delivery::{About, DeliveryState, Occurrence},
    reach::{Reach, reach},
    storm::{ALONE_A_MINUTE, LastMinute, Share, ends, share},
};
pub use rotations::{
    batch::{BatchState, Part, PartId, Range, WRITE_WITHIN},
    canary::Canary,
    census::{CensusCount, Found},
    figures::{Basis, KmsCalls, Rate, Storage, TableSize, Written, kms_calls, written},
    findings::{
        Effects, Finding, KeyringFacts, LatestRotation, Need, keyring_findings, not_released,
        strange_values, undeclared,
    },
    quarantine::{QuarantineReason, fewer_stand_out, stands_out as quarantine_stands_out},
    rotation::{
        Facts, PASSES_AT_ONCE, PassCensus, RequestDecision, Rotation, RotationError,
        RotationReason, RotationState, Step, Timing, decide_request, next_step,
    },
    stragglers::{Figures, goes_over_all, worth_a_sweep},
    sweep::{RotationKind, SweepDecision, decide_sweep},
};
pub use sources::{
    bind_type::{BindType, NotOfType},
    bind_value::BindValue,
    column::{
        Bind, BindError, ColumnName, ColumnNameError, ColumnSpec, OnUpdate, TextEncoding, Triggers,
        id_part,
    },
    limits::{Hold, Limits, Load, Urgent},
    pace::Pace,
    url::{
        BROKER_PARAMETERS, PASSWORD_NOT_ENCODED, SHARED_SESSIONS, may_show_password,
        sqlite_parameter_problem,
    },
};
pub use time::{
    duration::{DurationError, format_duration, parse_duration},
    retry::{MAX_DELAY, RetryPolicy},
    schedule::{Schedule, ScheduleError},
    window::{Window, WindowError},
};
