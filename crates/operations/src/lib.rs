//! What people and programs ask for, authorised and audited; the command line is a face of it.

mod admit;
mod apply;
mod audit;
mod audited;
mod authorise;
mod background;
mod canary;
mod cancel;
mod census;
pub mod certificate;
mod columns_check;
mod columns_release;
mod columns_rename;
mod dead_letters;
mod desired;
mod dispatch;
mod effects;
mod error;
mod grants;
mod heartbeat;
mod init;
mod key_making;
mod kms;
mod leases;
mod look;
mod master;
mod metered_kms;
mod opening;
mod pause;
mod places;
mod probe;
pub mod program;
mod protected_tables;
mod quarantine;
mod quarantine_retry;
mod rotate;
mod rotation_plan;
mod services;
mod sources_accept;
mod stragglers;
mod strays;
mod sweep;
mod too_new;
mod uses;
mod views;
mod whereabouts;
mod workers;

pub use admit::{Admission, REQUESTS_HELD, admit, turned_away};
pub use apply::{Change, apply, plan};
pub use audit::{AuditVerdict, verify_audit};
pub use authorise::{Action, Requester, authorise};
pub use background::{background, tend};
pub use canary::columns_along;
pub use cancel::cancel_rotation;
pub use census::{CensusRow, PassToProve, TableCensus, census, census_by_table, census_of_columns};
pub use columns_check::{ColumnOpening, ColumnView, ColumnsCheck, check_columns, column_views};
pub use columns_release::{Released, release_column};
pub use columns_rename::{Renamed, rename_column};
pub use dead_letters::{dismiss_dead_letters, retry_dead_letters};
pub use desired::{
    Desired, DesiredColumn, DesiredKeyring, DesiredSource, DesiredTable, STORE_SOURCE,
};
pub use dispatch::Dispatch;
pub use effects::refuse_unsaid_effects;
pub use error::OperationError;
pub use grants::{Grantee, Grants, RabbitMqGrant, SourceGrants, Worker, grants, grants_together};
pub use heartbeat::beat;
pub use init::init;
pub use key_making::{MadeKey, make_key};
pub use kms::{connect_kms, create_kms};
pub use leases::StoreLeases;
pub use master::{
    KeysUnder, MasterRotation, MasterView, NotRewrapped, StartWith, change_passphrase, master_view,
    rotate_master,
};
pub use opening::Opening;
pub use pause::{or_pause, pause_rotation, resume_over_unknown_keys, resume_rotation};
pub use places::{Places, sqlite_url};
pub use probe::ProcessProbe;
pub use quarantine::{QuarantineView, quarantine_view, quarantine_views, resolve_quarantined};
pub use quarantine_retry::{QuarantineRetry, Retry, retry_quarantined};
pub use rotate::{publish, request_rotation, retry_rotation, rotate};
pub use rotation_plan::{
    ColumnPlan, Encryptions, RotationPlan, TablePlan, TimePlan, rotation_plan,
};
pub use services::Services;
pub use sources_accept::{Accepted, accept_database};
pub use stragglers::{ByKey, Stragglers, look_for_stragglers, unknown_keys};
pub use sweep::{SweepOutcome, SweepView, sweep, sweep_keyring};
pub use too_new::{standby_keys, too_new_values};
pub use views::{
    KeyView, RotationView, Status, key_views, requested_rotation, rotation_view, rotation_views,
    status,
};
pub use workers::{WorkerView, worker_problems, worker_views};
