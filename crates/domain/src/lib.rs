//! Keys, rotations, batches and access: pure rules and state machines.
//!
//! Nothing here does IO, reads a clock or waits: every function takes values, a time where it needs
//! one, and returns values. Words follow NIST SP 800-57 and Tink.

mod allowance;
mod batch;
mod bind_type;
mod canary;
mod census;
mod column;
mod duration;
mod encrypt_lease;
mod figures;
mod findings;
mod io_words;
mod key;
mod keyring;
mod limits;
mod names;
mod pace;
mod principal;
mod quarantine;
mod retry;
mod rotation;
mod schedule;
mod stragglers;
mod sweep;
mod url;
mod usage;
mod window;

pub use allowance::{AT_ONCE, Allowance, EVERY};
pub use batch::{BatchState, Part, PartId, Range};
pub use bind_type::{BindType, NotOfType, hex};
pub use canary::Canary;
pub use census::{CensusCount, Found};
pub use column::{
    Bind, BindError, BindValue, ColumnName, ColumnNameError, ColumnSpec, OnUpdate, TextEncoding,
    Triggers, id_part,
};
pub use duration::{DurationError, format_duration, parse_duration};
pub use encrypt_lease::{EncryptLease, leases_end};
pub use figures::{Basis, KmsCalls, Rate, Storage, TableSize, Written, kms_calls, written};
pub use findings::{
    Effects, Finding, KeyringFacts, LatestRotation, Need, keyring_findings, not_released,
    strange_values, unsaid,
};
pub use io_words::io_words;
pub use key::{BackupProof, KeyError, KeyState};
pub use keyring::{Algorithm, BackupPolicy, KeyringPolicy, Purpose};
pub use limits::{Hold, Limits, Load};
pub use names::{KeyId, KeyName, KeyringName, NameError};
pub use pace::Pace;
pub use principal::{Principal, PrincipalError};
pub use quarantine::{QuarantineReason, stands_out as quarantine_stands_out};
pub use retry::{MAX_DELAY, RetryPolicy};
pub use rotation::{
    Facts, PassCensus, RequestDecision, Rotation, RotationError, RotationReason, RotationState,
    Step, Timing, decide_request, next_step,
};
pub use schedule::{Schedule, ScheduleError};
pub use stragglers::{Figures, worth_a_sweep};
pub use sweep::{RotationKind, SweepDecision, decide_sweep};
pub use url::{
    BROKER_PARAMETERS, PASSWORD_NOT_ENCODED, SHARED_SESSIONS, may_show_password,
    sqlite_parameter_problem,
};
pub use usage::{
    FIRST_BLOCK, Forecast, HARD_LIMIT, LARGEST_BLOCK, PLAN_LIMIT, UsageBlock, UsageError, forecast,
    next_block_size, plan_fits, take_block,
};
pub use window::{Window, WindowError};
