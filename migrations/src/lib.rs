//! The schema of the store, for PostgreSQL and SQLite. It only ever expands.

use sea_orm_migration::prelude::*;

mod m0001_keys;
mod m0002_rotations;
mod m0003_sources;
mod m0004_audit;
mod m0005_messages;
mod m0006_master_key;
mod m0007_batch_part;
mod m0008_one_deployment;
mod m0009_rotation_request;
mod m0010_paused_because;
mod m0011_outbox_due;
mod m0012_dispatched_batches;
mod m0013_resumptions;
mod m0014_steering;
mod m0016_urgent_and_dismissed;
mod m0017_certificates;
mod m0018_sweeps;
mod m0020_publications_accepted;
mod m0021_totals;
mod m0022_identities;
mod m0024_longest_lease;
mod m0025_written_by;
mod m0027_places;
mod m0028_detail;
mod m0029_guards;
mod m0030_bind_types;
mod m0031_dead_letter_stood;
mod m0032_heartbeats;
mod m0033_guards;
mod m0034_stragglers;
mod m0035_in_doubt;
mod m0036_led_batches;
mod m0037_incidents;
mod m0038_written_after;
mod m0039_notifications;
mod m0040_who_acted;
mod m0041_backups;
mod m0042_reopened;
mod m0043_bind_lengths;
mod m0044_reported_master_keys;
mod m0045_places;
mod m0046_checkpoints;
mod table;

/// Every migration, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_keys::Migration),
            Box::new(m0002_rotations::Migration),
            Box::new(m0003_sources::Migration),
            Box::new(m0004_audit::Migration),
            Box::new(m0005_messages::Migration),
            Box::new(m0006_master_key::Migration),
            Box::new(m0007_batch_part::Migration),
            Box::new(m0008_one_deployment::Migration),
            Box::new(m0009_rotation_request::Migration),
            Box::new(m0010_paused_because::Migration),
            Box::new(m0011_outbox_due::Migration),
            Box::new(m0012_dispatched_batches::Migration),
            Box::new(m0013_resumptions::Migration),
            Box::new(m0014_steering::Migration),
            Box::new(m0016_urgent_and_dismissed::Migration),
            Box::new(m0017_certificates::Migration),
            Box::new(m0018_sweeps::Migration),
            Box::new(m0020_publications_accepted::Migration),
            Box::new(m0021_totals::Migration),
            Box::new(m0022_identities::Migration),
            Box::new(m0024_longest_lease::Migration),
            Box::new(m0025_written_by::Migration),
            Box::new(m0027_places::Migration),
            Box::new(m0028_detail::Migration),
            Box::new(m0029_guards::Migration),
            Box::new(m0030_bind_types::Migration),
            Box::new(m0031_dead_letter_stood::Migration),
            Box::new(m0032_heartbeats::Migration),
            Box::new(m0033_guards::Migration),
            Box::new(m0034_stragglers::Migration),
            Box::new(m0035_in_doubt::Migration),
            Box::new(m0036_led_batches::Migration),
            Box::new(m0037_incidents::Migration),
            Box::new(m0038_written_after::Migration),
            Box::new(m0039_notifications::Migration),
            Box::new(m0040_who_acted::Migration),
            Box::new(m0041_backups::Migration),
            Box::new(m0042_reopened::Migration),
            Box::new(m0043_bind_lengths::Migration),
            Box::new(m0044_reported_master_keys::Migration),
            Box::new(m0045_places::Migration),
            Box::new(m0046_checkpoints::Migration),
        ]
    }
}
