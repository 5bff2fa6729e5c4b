//! Batches: planned, dispatched one for one that ends, done or given up.

mod covered;
mod dispatch;
mod led;
mod of_pass;

use std::{collections::HashSet, time::Duration};

use rekey_domain::{BatchState, PartId, Range};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait, Query},
};
use uuid::Uuid;

pub use self::covered::{Covered, covered, replan_void, void_parts};
pub use self::dispatch::{Dispatched, dispatch, send};
pub use self::led::{led, release};
use self::of_pass::of_pass;
pub use crate::rotations::entities::batch::Model as Batch;
use crate::{
    StoreError, Unit,
    database::stored::{Json, Text},
    rotations::{
        self, Locked, Rotation,
        entities::{batch, rotation},
        progress::{InDoubt, Tally},
    },
};

/// How long a dispatched batch may go without a sign of life before its message is sent again.
pub const RESEND_AFTER: Duration = Duration::from_secs(30);

/// The batch of this id.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Batch, StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("batch {id}"),
        known: Vec::new(),
    };
    batch::Entity::find_by_id(id)
        .one(db)
        .await?
        .ok_or_else(unknown)
}

impl Batch {
    /// How far it has come.
    pub fn state(&self) -> BatchState {
        self.state.0
    }

    /// The write whose answer was never heard, if there is one.
    pub fn in_doubt(&self) -> Option<InDoubt> {
        self.in_doubt.as_ref().map(|Json(doubt)| *doubt)
    }

    /// The part of the table that it is a range of.
    pub fn part(&self) -> PartId {
        PartId {
            name: self.part.clone(),
            form: self.part_form.clone(),
        }
    }

    /// Its range.
    pub fn range(&self) -> Range {
        Range {
            first: self.first,
            last: self.last,
        }
    }
}

/// Names asked for at once: the databases bind only so many values to a statement.
const NAMES: usize = 500;

/// The parts with these names that have ranges in a rotation's current pass, in the form they had when planned.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn planned_parts(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    table: Uuid,
    names: &[&str],
) -> Result<HashSet<PartId>, StoreError> {
    let mut planned = HashSet::new();
    for some in names.chunks(NAMES) {
        let parts = parts_of_pass(rotation, table).filter(batch::Column::Part.is_in(some.to_vec()));
        planned.extend(parts_found(parts.into_tuple().all(db).await?));
    }
    Ok(planned)
}

/// The parts of a rotation's current pass that have rows in `batch`, each once.
fn parts_of_pass(rotation: &Rotation, table: Uuid) -> Select<batch::Entity> {
    batch::Entity::find()
        .select_only()
        .column(batch::Column::Part)
        .column(batch::Column::PartForm)
        .distinct()
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(batch::Column::TableId.eq(table))
}

fn parts_found(found: Vec<(String, String)>) -> impl Iterator<Item = PartId> {
    found.into_iter().map(|(name, form)| PartId { name, form })
}

/// Dispatched batches of live rotations whose sign of life was due by `now`, or lies further ahead than any date we set
/// (database time, milliseconds).
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn to_resend(
    db: &impl ConnectionTrait,
    now: i64,
    furthest: i64,
) -> Result<Vec<Batch>, StoreError> {
    let dispatched = batch::Column::State.eq(BatchState::Dispatched.to_string());
    let due = batch::Column::ResendAt
        .lte(now)
        .or(batch::Column::ResendAt.gt(furthest));
    let live = Query::select()
        .column(rotation::Column::Id)
        .from(rotation::Entity)
        .and_where(rotation::Column::State.is_in(rotations::LIVE.map(|state| state.to_string())))
        .to_owned();
    Ok(batch::Entity::find()
        .filter(dispatched)
        .filter(due)
        .filter(batch::Column::RotationId.in_subquery(live))
        .limit(100)
        .all(db)
        .await?)
}

/// Plans one range; gives the batch, which may lead others.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn plan(
    unit: &Unit,
    rotation: &Rotation,
    table: Uuid,
    (part, range): (&PartId, Range),
    led_by: Option<Uuid>,
) -> Result<Uuid, StoreError> {
    let id = Uuid::now_v7();
    let row = batch::ActiveModel {
        id: Set(id),
        rotation_id: Set(rotation.id),
        table_id: Set(table),
        pass: Set(rotation.pass),
        part: Set(part.name.clone()),
        part_form: Set(part.form.clone()),
        first: Set(range.first),
        last: Set(range.last),
        state: Set(Text(BatchState::Planned)),
        resend_at: Set(0),
        moved: Set(0),
        conflicts: Set(0),
        quarantined: Set(0),
        failure: Set(None),
        ended_at: Set(None),
        rows_moved: Set(None),
        waiting_because: Set(None),
        opened: Set(None),
        waiting_since: Set(None),
        in_doubt: Set(None),
        led_by: Set(led_by),
    };
    batch::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    Ok(id)
}

/// What the dispatched batches of a rotation wait for, each once.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waiting(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Vec<String>, StoreError> {
    Ok(batch::Entity::find()
        .select_only()
        .column(batch::Column::WaitingBecause)
        .distinct()
        .filter(of_pass(rotation, BatchState::Dispatched))
        .filter(batch::Column::WaitingBecause.is_not_null())
        .order_by_asc(batch::Column::WaitingBecause)
        .into_tuple()
        .all(db)
        .await?)
}

/// Since when one of them waits for what should be there: a lock, a database that is away.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn waiting_since(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Option<i64>, StoreError> {
    let since: Option<Option<i64>> = batch::Entity::find()
        .select_only()
        .column_as(batch::Column::WaitingSince.min(), "since")
        .filter(of_pass(rotation, BatchState::Dispatched))
        .into_tuple()
        .one(db)
        .await?;
    Ok(since.flatten())
}

/// What a batch waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A limit that people set.
    Limit(String),
    /// Something that should be there and is not, such as a lock or a database; it should not last long.
    Missing(String),
}

/// Says why a dispatched batch waits, and that it is looked at again after `lasts`; None: it goes on.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_waiting(
    unit: &Unit,
    batch: &Batch,
    wait: Option<Wait>,
    lasts: Duration,
) -> Result<(), StoreError> {
    let resend_at = unit.database_time_in(lasts + RESEND_AFTER);
    let since = match wait {
        Some(Wait::Missing(_)) => {
            let now = unit.database_time_in(Duration::ZERO);
            Some(batch.waiting_since.unwrap_or(now))
        }
        Some(Wait::Limit(_)) | None => None,
    };
    let because = wait.map(|(Wait::Limit(because) | Wait::Missing(because))| because);
    batch::Entity::update_many()
        .col_expr(batch::Column::WaitingBecause, Expr::value(because))
        .col_expr(batch::Column::WaitingSince, Expr::value(since))
        .col_expr(batch::Column::ResendAt, Expr::value(resend_at))
        .filter(batch::Column::Id.eq(batch.id))
        .filter(batch::Column::State.eq(BatchState::Dispatched.to_string()))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Puts off sending the batch's message again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn give_sign_of_life(
    unit: &Unit,
    batch: Uuid,
    lasts: Duration,
) -> Result<(), StoreError> {
    batch::Entity::update_many()
        .col_expr(
            batch::Column::ResendAt,
            Expr::value(unit.database_time_in(lasts)),
        )
        .filter(batch::Column::Id.eq(batch))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Has the messages of all dispatched batches sent again at once, as what came of them is not known.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn resend_now(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    batch::Entity::update_many()
        .col_expr(batch::Column::ResendAt, Expr::value(0_i64))
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::State.eq(BatchState::Dispatched.to_string()))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Ends a batch well. The rotation is locked, so that every later count includes this batch.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn finish(
    unit: &Unit,
    _held: &Locked,
    batch: &Batch,
    tally: Tally,
) -> Result<(), StoreError> {
    let changes = batch::ActiveModel {
        quarantined: Set(signed(tally.quarantined)),
        opened: Set(Some(signed(tally.opened))),
        ..ended(unit, batch, tally)
    };
    change_state(unit, batch, BatchState::Done, changes).await
}

/// Ends a batch whose part was rewritten or is gone: the batch proved nothing, and the part is planned again. What it
/// moved until then stays moved.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn void(
    unit: &Unit,
    _held: &Locked,
    batch: &Batch,
    tally: Tally,
) -> Result<(), StoreError> {
    let changes = ended(unit, batch, tally);
    change_state(unit, batch, BatchState::Void, changes).await
}

/// Adds what an attempt did since it told the last time, and what it is about to do.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn tell(
    unit: &Unit,
    batch: &Batch,
    since: Tally,
    in_doubt: Option<InDoubt>,
) -> Result<(), StoreError> {
    use batch::Column::{Conflicts, Id, Moved, RowsMoved};
    let add = |column: batch::Column, count| Expr::col(column).if_null(0_i64).add(signed(count));
    batch::Entity::update_many()
        .col_expr(RowsMoved, add(RowsMoved, since.rows))
        .col_expr(Moved, add(Moved, since.moved))
        .col_expr(Conflicts, add(Conflicts, since.conflicts))
        .set(batch::ActiveModel {
            in_doubt: Set(in_doubt.map(Json)),
            ..Default::default()
        })
        .filter(Id.eq(batch.id))
        .exec(unit.db())
        .await?;
    Ok(())
}

fn ended(unit: &Unit, batch: &Batch, tally: Tally) -> batch::ActiveModel {
    let rows_before = batch.rows_moved.unwrap_or_default();
    batch::ActiveModel {
        rows_moved: Set(Some(rows_before + signed(tally.rows))),
        moved: Set(batch.moved + signed(tally.moved)),
        conflicts: Set(batch.conflicts + signed(tally.conflicts)),
        ended_at: Set(Some(unit.now())),
        in_doubt: Set(None),
        ..Default::default()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Gives a batch up; the others go on.
///
/// # Errors
/// [`StoreError::Stale`] where it had ended before.
pub async fn fail(unit: &Unit, _held: &Locked, batch: &Batch, why: &str) -> Result<(), StoreError> {
    let changes = batch::ActiveModel {
        failure: Set(Some(why.to_owned())),
        ended_at: Set(Some(unit.now())),
        ..Default::default()
    };
    led::release(unit, batch).await?;
    change_state(unit, batch, BatchState::Failed, changes).await
}

/// Why a batch of the current pass was given up, if one was.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn why_failed(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Option<String>, StoreError> {
    let failed = batch::Entity::find()
        .filter(of_pass(rotation, BatchState::Failed))
        .limit(1)
        .one(db)
        .await?;
    Ok(failed.and_then(|batch| batch.failure))
}

/// Plans the failed batches of the current pass again.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn replan_failed(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    let changes = batch::ActiveModel {
        state: Set(Text(BatchState::Planned)),
        failure: Set(None),
        // Whatever led it is over.
        led_by: Set(None),
        ..Default::default()
    };
    batch::Entity::update_many()
        .set(changes)
        .filter(of_pass(rotation, BatchState::Failed))
        .exec(unit.db())
        .await?;
    Ok(())
}

async fn change_state(
    unit: &Unit,
    batch: &Batch,
    next: BatchState,
    mut changes: batch::ActiveModel,
) -> Result<(), StoreError> {
    if !batch.state.0.may_become(next) {
        let state = batch.state.0;
        return Err(StoreError::Refused(format!(
            "a batch that is {state} cannot become {next}"
        )));
    }
    changes.state = Set(Text(next));
    let changed = batch::Entity::update_many()
        .set(changes)
        .filter(batch::Column::Id.eq(batch.id))
        .filter(batch::Column::State.eq(batch.state.clone()))
        .exec(unit.db())
        .await?;
    if changed.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Stale {
            what: format!("batch {}", batch.id),
        })
    }
}

#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;
