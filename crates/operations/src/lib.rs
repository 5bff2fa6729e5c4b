//! What people and programs can ask for, authorised and audited; the command line only calls these functions.

mod access;
mod audit;
mod backups;
pub mod certificates;
mod configuration;
mod error;
mod incidents;
mod keys;
pub mod notifications;
mod quarantine;
mod recovery;
mod requests;
mod rotations;
mod services;
mod sources;
mod status;
mod work;

pub use access::{
    authorise::{Action, Requester, authorise},
    rights as store_rights,
};
pub use audit::{AuditVerdict, audit_entry, latest_audit_entries, verify_audit};
pub use backups::{
    checkpointing::{Checkpoints, checkpoints_are_current},
    places::BackupPlaces,
    pruning::{Left, Pruned, Pruning, plan_pruning, prune_backups},
    recovery::{SplitRecoveryKey, keep_recovery_key, split_recovery_key},
    request::{BackupsRequested, request_backups},
    sealed_anew::not_sealed_under,
    views::{
        BackupView, BundleView, DeploymentBackupView, DestinationView, DrillView, KeyBackups,
        RecoveryKeyView, backup_views, deployment_backup_views, destination_views, key_backups,
        recovery_key_views,
    },
    work::{Looked, back_up_and_drill, verify_backups},
};
pub use configuration::{
    apply::{Change, apply, missing_keyrings, plan},
    desired::{Desired, STORE_SOURCE},
    init::init,
};
pub use error::OperationError;
pub use incidents::{
    compromise::{
        CompromisePlan, MasterReport, MasterReported, Report, Reported, compromise_plan,
        report_compromise, report_master_compromise,
    },
    handling::{acknowledge_alert, acknowledge_incident, resolve_incident},
    views::{
        AlertView, IncidentView, ReportView, alert_view, alert_views, incident_view, incident_views,
    },
    watch::watch as watch_alerts,
};
pub use keys::{
    leases::StoreLeases,
    making::{MadeKey, make_key},
    master::{
        KeysUnder, MasterRotation, MasterView, NotRewrapped, StartWith, change_passphrase,
        master_view, refuse_lost, rotate_master,
    },
    views::{KeyView, key_views},
};
pub use quarantine::{
    retry::{QuarantineRetry, Retry, retry_quarantined},
    {QuarantineView, quarantine_view, quarantine_views, resolve_quarantined},
};
pub use recovery::{
    key::{KeyCameBack, restore_key},
    reconciling::{KeyChange, Reconciled, plan_reconcile, reconcile_store},
    whole::{CheckpointAge, HowToRestore, RestoredKey, RestoredStore, plan_restore, restore_store},
};
pub use rekey_runtime::config::{ColumnConfig, KeyringConfig, SourceConfig, TableConfig};
pub use requests::{
    admit::{Admission, REQUESTS_HELD, admit, turned_away},
    publish::publish,
};
pub use rotations::{
    canary::{columns_along, no_canary},
    cancel::cancel_rotation,
    census::{CensusRow, PassToProve, TableCensus, census, census_by_table, census_of_columns},
    dispatch::Dispatch,
    pause::{or_pause, pause_rotation, resume_over_unknown_keys, resume_rotation},
    plan::{ColumnPlan, Encryptions, RotationPlan, TablePlan, TimePlan, rotation_plan},
    rotate::{request_rotation, retry_rotation, rotate},
    stragglers::{ByKey, Stragglers, look_for_stragglers, unknown_keys},
    sweep::{SweepOutcome, SweepView, sweep, sweep_keyring},
    too_new::{standby_keys, too_new_values},
    views::{RotationView, requested_rotation, rotation_view, rotation_views},
};
pub use services::Services;
pub use sources::{
    accept::{Accepted, accept_database},
    check::{
        ColumnOpening, ColumnView, ColumnsCheck, check_columns, column_views, protected_column,
    },
    effects::refuse_undeclared_effects,
    opening::Opening,
    protected_tables::{ProtectedTable, protected_tables},
    release::{Released, release_column},
    rename::{Renamed, rename_column},
};
pub use status::{Status, status};
pub use work::{
    dead_letters::{dismiss_dead_letters, open_dead_letters, retry_dead_letters},
    heartbeat::beat,
    workers::{WorkerView, worker_problems, worker_views, works},
};
