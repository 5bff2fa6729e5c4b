//! Signs of life: who works, since when, and what each lacks.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{ExprTrait, OnConflict},
};
use uuid::Uuid;

pub use crate::work::entities::heartbeat::Model as Heartbeat;
use crate::{StoreError, Unit, database::time::database_time, work::entities::heartbeat};

/// Who gave no sign for so long is forgotten, and what is dated ahead by more.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker, as it says of itself.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its own, made when it started.
    pub id: Uuid,
    /// Which: `rotator`.
    pub worker: &'static str,
    /// Where it runs: host and process.
    pub place: String,
}

/// What a worker needs and has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacks {
    /// In words.
    pub said: Option<String>,
    /// Which things: `kms`, `source/clinic`.
    pub things: Vec<String>,
}

/// Gives a sign of life, with what the worker lacks.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn beat(unit: &Unit, worker: &Process, lacks: &Lacks) -> Result<(), StoreError> {
    use heartbeat::Column::{Id, Misses, SeenAt};
    let now = unit.database_time_in(Duration::ZERO);
    let row = heartbeat::ActiveModel {
        id: Set(worker.id),
        worker: Set(worker.worker.to_owned()),
        place: Set(worker.place.clone()),
        started_at: Set(now),
        seen_at: Set(now),
        lacks: Set(lacks.said.clone()),
        misses: Set((!lacks.things.is_empty()).then(|| lacks.things.join(" "))),
    };
    let again = OnConflict::column(Id)
        .update_columns([SeenAt, heartbeat::Column::Lacks, Misses])
        .to_owned();
    heartbeat::Entity::insert(row)
        .on_conflict(again)
        .exec_without_returning(unit.db())
        .await?;
    let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    heartbeat::Entity::delete_many()
        .filter(SeenAt.lt(now - kept).or(SeenAt.gt(now + kept)))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// The worker ends.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn end(unit: &Unit, worker: &Process) -> Result<(), StoreError> {
    heartbeat::Entity::delete_by_id(worker.id)
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Every sign of life that is not forgotten, the latest first, and the database's time.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<(Vec<Heartbeat>, i64), StoreError> {
    let rows = heartbeat::Entity::find().order_by_desc(heartbeat::Column::SeenAt);
    Ok((rows.all(db).await?, database_time(db).await?))
}
