//! The newest checkpoint at each destination, as the store knows it. What is true of it the destination says.

use chrono::{DateTime, Utc};
use rekey_domain::{BackupProblem, DestinationName};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Alias, Expr, Func, OnConflict},
};

use crate::{
    StoreError, Unit,
    backups::{
        destinations::Since,
        entities::checkpoint::{self, Column, Entity},
    },
    database::stored::Text,
};

/// A checkpoint at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCheckpoint {
    /// Where.
    pub destination: DestinationName,
    /// Its number.
    pub counter: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Vec<u8>,
    /// The entry of the audit log that was the last.
    pub sequence: i64,
    /// Its hash.
    pub hash: Vec<u8>,
    /// The SHA-256 of the states document, in hex.
    pub states: String,
    /// When it was written.
    pub written_at: DateTime<Utc>,
    /// Why none was written since, where one was due, and since when.
    pub problem: Option<(BackupProblem, DateTime<Utc>)>,
}

/// A checkpoint that a destination has acknowledged.
#[derive(Debug, Clone)]
pub struct NewCheckpoint {
    /// Where.
    pub destination: DestinationName,
    /// Its number.
    pub counter: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// The entry of the audit log that was the last.
    pub sequence: i64,
    /// Its hash.
    pub hash: Vec<u8>,
    /// The SHA-256 of the states document, in hex.
    pub states: String,
}

impl From<checkpoint::Model> for KnownCheckpoint {
    fn from(row: checkpoint::Model) -> Self {
        Self {
            destination: row.destination.0,
            counter: row.counter.unsigned_abs(),
            sha256: row.sha256,
            sequence: row.sequence,
            hash: row.hash,
            states: row.states,
            written_at: row.written_at,
            problem: row
                .problem
                .map(|Text(problem)| problem)
                .zip(row.failing_since),
        }
    }
}

/// The newest at each destination, at the place that its name means today.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<KnownCheckpoint>, StoreError> {
    let rows = Entity::find()
        .filter(Column::Counter.gt(0))
        .order_by_asc(Column::Destination);
    let (rows, since) = (rows.all(db).await?, Since::of(db).await?);
    let mut all: Vec<_> = rows.into_iter().map(KnownCheckpoint::from).collect();
    all.retain(|one| since.is_here(&one.destination, one.written_at));
    Ok(all)
}

/// The highest number that was given to a checkpoint, wherever it stands; 0: none was written.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn highest(db: &impl ConnectionTrait) -> Result<u64, StoreError> {
    let last = Entity::find().order_by_desc(Column::Counter).one(db);
    Ok(last.await?.map_or(0, |row| row.counter.unsigned_abs()))
}

/// Notes the newest at a destination.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note(unit: &Unit, new: NewCheckpoint) -> Result<(), StoreError> {
    let row = checkpoint::ActiveModel {
        id: Set(unit.new_id()),
        destination: Set(Text(new.destination)),
        counter: Set(i64::try_from(new.counter).unwrap_or(i64::MAX)),
        sha256: Set(new.sha256.to_vec()),
        sequence: Set(new.sequence),
        hash: Set(new.hash),
        states: Set(new.states),
        written_at: Set(unit.now()),
        problem: Set(None),
        failing_since: Set(None),
    };
    let again = OnConflict::column(Column::Destination)
        .update_columns([
            Column::Counter,
            Column::Sha256,
            Column::Sequence,
            Column::Hash,
            Column::States,
            Column::WrittenAt,
            Column::Problem,
            Column::FailingSince,
        ])
        .to_owned();
    let noted = Entity::insert(row).on_conflict(again);
    noted.exec_without_returning(unit.db()).await?;
    Ok(())
}

/// Notes why a checkpoint that is due was not written.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_problem(
    unit: &Unit,
    at: &DestinationName,
    problem: BackupProblem,
) -> Result<(), StoreError> {
    let row = checkpoint::ActiveModel {
        id: Set(unit.new_id()),
        destination: Set(Text(at.clone())),
        counter: Set(0),
        sha256: Set(Vec::new()),
        sequence: Set(0),
        hash: Set(Vec::new()),
        states: Set(String::new()),
        written_at: Set(unit.now()),
        problem: Set(Some(Text(problem))),
        failing_since: Set(Some(unit.now())),
    };
    let again = OnConflict::column(Column::Destination)
        .update_column(Column::Problem)
        .value(Column::FailingSince, first_of(Column::FailingSince))
        .to_owned();
    let noted = Entity::insert(row).on_conflict(again);
    noted.exec_without_returning(unit.db()).await?;
    Ok(())
}

/// What fails at a destination, and since when.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn failing(
    db: &impl ConnectionTrait,
) -> Result<Vec<(DestinationName, BackupProblem, DateTime<Utc>)>, StoreError> {
    let rows = Entity::find().filter(Column::Problem.is_not_null());
    let rows = rows.all(db).await?.into_iter();
    Ok(rows
        .filter_map(|row| Some((row.destination.0, row.problem?.0, row.failing_since?)))
        .collect())
}

/// The time that stands there already, else the new one.
fn first_of(column: Column) -> Expr {
    let there = Expr::col((Entity, column));
    Func::coalesce([there, Expr::col((Alias::new("excluded"), column))]).into()
}
