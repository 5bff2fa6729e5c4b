//! The deployment's own bundle, which holds what the store knows beside keys: the newest at each destination.

use chrono::{DateTime, Utc};
use rekey_domain::{BackupProblem, DestinationName, KeyId};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};

use crate::{
    StoreError, Unit,
    backups::destinations::Since,
    backups::entities::deployment_backup::{self, Column, Entity},
    database::stored::{Id, Text},
};

/// What is known of it at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentBackup {
    /// Where.
    pub destination: DestinationName,
    /// What stands there; none: nothing was stored yet.
    pub stored: Option<StoredDeployment>,
    /// When a drill last brought it back.
    pub proved_at: Option<DateTime<Utc>>,
    /// When it was last stored or drilled, or that was tried.
    pub tried_at: DateTime<Utc>,
    /// What was wrong then.
    pub problem: Option<BackupProblem>,
    /// How often in a row.
    pub times: u32,
}

/// The bundle that stands at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeployment {
    /// Its name there, derived from its bytes.
    pub name: String,
    /// The hash of what it holds.
    pub contents: String,
    /// The BACKUP key that it is sealed under.
    pub backup_key: KeyId,
    /// The fingerprint of the RECOVERY key that it is sealed to.
    pub recovery: Option<String>,
    /// When it was last found to hold what a new one would.
    pub confirmed_at: DateTime<Utc>,
}

impl From<deployment_backup::Model> for DeploymentBackup {
    fn from(row: deployment_backup::Model) -> Self {
        let stored = || {
            Some(StoredDeployment {
                name: row.name?,
                contents: row.contents?,
                backup_key: row.backup_key_id?.0,
                recovery: row.recovery,
                confirmed_at: row.confirmed_at?,
            })
        };
        Self {
            destination: row.destination.0,
            proved_at: row.proved_at,
            tried_at: row.tried_at,
            problem: row.problem.map(|Text(problem)| problem),
            times: row.times.unsigned_abs(),
            stored: stored(),
        }
    }
}

/// A bundle that a destination has acknowledged.
#[derive(Debug, Clone)]
pub struct NewDeploymentBackup {
    /// Its name there.
    pub name: String,
    /// The hash of what it holds.
    pub contents: String,
    /// The BACKUP key that it is sealed under.
    pub backup_key: KeyId,
    /// The fingerprint of the RECOVERY key that it is sealed to.
    pub recovery: Option<String>,
}

/// At every destination where it was tried.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<DeploymentBackup>, StoreError> {
    let rows = Entity::find().order_by_asc(Column::Destination);
    let (rows, since) = (rows.all(db).await?, Since::of(db).await?);
    let mut all: Vec<_> = rows.into_iter().map(DeploymentBackup::from).collect();
    for one in &mut all {
        let is_here = |then| since.is_here(&one.destination, then);
        one.stored.take_if(|stored| !is_here(stored.confirmed_at));
        one.proved_at.take_if(|at| !is_here(*at));
    }
    Ok(all)
}

/// Notes that it stands at a destination, now.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_stored(
    unit: &Unit,
    at: &DestinationName,
    new: NewDeploymentBackup,
) -> Result<(), StoreError> {
    let row = row(unit, at).await?;
    let is_other = row.name.as_ref() != Some(&new.name);
    let change = deployment_backup::ActiveModel {
        id: Unchanged(row.id),
        name: Set(Some(new.name)),
        contents: Set(Some(new.contents)),
        backup_key_id: Set(Some(Id(new.backup_key))),
        recovery: Set(new.recovery),
        stored_at: match is_other {
            true => Set(Some(unit.now())),
            false => Unchanged(row.stored_at),
        },
        confirmed_at: Set(Some(unit.now())),
        ..Default::default()
    };
    change.update(unit.db()).await?;
    Ok(())
}

/// Notes what an attempt to store or drill it came to.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_attempt(
    unit: &Unit,
    at: &DestinationName,
    problem: Option<BackupProblem>,
) -> Result<(), StoreError> {
    let row = row(unit, at).await?;
    let is_same = row.problem == problem.map(Text);
    let change = deployment_backup::ActiveModel {
        id: Unchanged(row.id),
        tried_at: Set(unit.now()),
        problem: Set(problem.map(Text)),
        times: Set(if is_same {
            row.times.saturating_add(1)
        } else {
            1
        }),
        proved_at: match problem {
            None => Set(Some(unit.now())),
            Some(_) => Unchanged(row.proved_at),
        },
        ..Default::default()
    };
    change.update(unit.db()).await?;
    Ok(())
}

/// The destination's row, made where there is none.
async fn row(unit: &Unit, at: &DestinationName) -> Result<deployment_backup::Model, StoreError> {
    let found = Entity::find().filter(Column::Destination.eq(at.as_str()));
    if let Some(row) = found.one(unit.db()).await? {
        return Ok(row);
    }
    let new = deployment_backup::ActiveModel {
        id: Set(unit.new_id()),
        destination: Set(Text(at.clone())),
        name: Set(None),
        contents: Set(None),
        backup_key_id: Set(None),
        recovery: Set(None),
        stored_at: Set(None),
        confirmed_at: Set(None),
        proved_at: Set(None),
        tried_at: Set(unit.now()),
        problem: Set(None),
        times: Set(0),
    };
    let taken =
        |error| StoreError::stale_if_taken(error, format!("the deployment's backup at {at}"));
    new.insert(unit.db()).await.map_err(taken)
}
