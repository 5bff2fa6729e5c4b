//! Progress: what a rotation's batches add up to, counted by the database and never read one by one.

use rekey_domain::BatchState;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

pub use super::figures::{InDoubt, Place, Progress, Tally, Totals};
use crate::{
    StoreError,
    database::stored::Text,
    rotations::{Rotation, entities::batch},
};

/// Batches of a current pass that keep it from its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Those that wait.
    pub planned: u64,
    /// Those in flight.
    pub dispatched: u64,
    /// Those given up.
    pub failed: u64,
}

impl Unfinished {
    /// Those that still have to be done.
    pub fn open(self) -> u64 {
        self.planned + self.dispatched
    }
}

#[derive(FromQueryResult)]
struct Group {
    state: Text<BatchState>,
    of_pass: bool,
    batches: i64,
    rows: Option<i64>,
    moved: i64,
    conflicts: i64,
    quarantined: i64,
    opened: Option<i64>,
}

/// How far a rotation is. Reads through all of its batches: for people, not for each batch.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of(db: &impl ConnectionTrait, rotation: &Rotation) -> Result<Progress, StoreError> {
    if let Some(totals) = rotation.totals_at_its_end() {
        return Ok(totals.progress);
    }
    let of_pass = "of_pass";
    let groups = batch::Entity::find()
        .select_only()
        .column(batch::Column::State)
        .column_as(batch::Column::Pass.eq(rotation.pass), of_pass)
        .column_as(batch::Column::Id.count(), "batches")
        .column_as(sum(batch::Column::RowsMoved), "rows")
        .column_as(sum(batch::Column::Moved), "moved")
        .column_as(sum(batch::Column::Conflicts), "conflicts")
        .column_as(sum(batch::Column::Quarantined), "quarantined")
        .column_as(sum(batch::Column::Opened), "opened")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .group_by(batch::Column::State)
        .group_by(Expr::col(of_pass));
    let groups = groups.into_model::<Group>().all(db).await?;
    Ok(groups.iter().fold(Progress::default(), Progress::with))
}

/// A sum of 64-bit numbers is of another type on PostgreSQL.
pub(crate) fn sum(column: batch::Column) -> Expr {
    Expr::col(column).sum().cast_as("bigint")
}

impl Progress {
    fn with(mut self, group: &Group) -> Self {
        let tally = &mut self.tally;
        tally.rows += group.rows.unwrap_or_default().unsigned_abs();
        tally.moved += group.moved.unsigned_abs();
        tally.conflicts += group.conflicts.unsigned_abs();
        if group.of_pass {
            tally.quarantined += group.quarantined.unsigned_abs();
            tally.opened += group.opened.unwrap_or_default().unsigned_abs();
            let batches = group.batches.unsigned_abs();
            match group.state.0 {
                BatchState::Void => {}
                BatchState::Done => {
                    self.done += batches;
                    self.batches += batches;
                }
                _ => self.batches += batches,
            }
        }
        self
    }
}

/// Values that a rotation's current pass moved.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn moved_in_pass(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<u64, StoreError> {
    moved(db, rotation, batch::Column::Pass.eq(rotation.pass)).await
}

/// Values that a rotation moved until nobody could write under a compromised key any more. Of one whose batches were
/// pruned only all that it moved is known, with what a person had moved later.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn moved_in_time(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<u64, StoreError> {
    if let Some(totals) = rotation.totals_at_its_end() {
        return Ok(totals.progress.tally.moved);
    }
    let until = rotation.late_pass.unwrap_or(rotation.pass);
    moved(db, rotation, batch::Column::Pass.lte(until)).await
}

async fn moved(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    of_pass: Expr,
) -> Result<u64, StoreError> {
    let moved: Option<Option<i64>> = batch::Entity::find()
        .select_only()
        .column_as(sum(batch::Column::Moved), "moved")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(of_pass)
        .into_tuple()
        .one(db)
        .await?;
    Ok(moved.flatten().unwrap_or_default().unsigned_abs())
}

/// What keeps a rotation's current pass from its end. An index answers it without the batches that are
/// done, so it costs the same for a table of any size.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn unfinished(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Unfinished, StoreError> {
    use BatchState::{Dispatched, Failed, Planned};
    let states = [Planned, Dispatched, Failed].map(|state| state.to_string());
    let counted: Vec<(Text<BatchState>, i64)> = batch::Entity::find()
        .select_only()
        .column(batch::Column::State)
        .column_as(batch::Column::State.count(), "batches")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(batch::Column::State.is_in(states))
        // A planned batch that another leads is not counted: its leader is.
        .filter(
            batch::Column::LedBy
                .is_null()
                .or(batch::Column::State.ne(Planned.to_string())),
        )
        .group_by(batch::Column::State)
        .into_tuple()
        .all(db)
        .await?;
    let of = |state| {
        let mut of_state = counted.iter().filter(|(Text(one), _)| *one == state);
        of_state.next().map_or(0, |(_, count)| count.unsigned_abs())
    };
    Ok(Unfinished {
        planned: of(Planned),
        dispatched: of(Dispatched),
        failed: of(Failed),
    })
}

#[cfg(test)]
mod tests {
    use rekey_domain::{PartId, Principal, Range, RotationReason};
    use uuid::Uuid;

    use super::*;
    use crate::{
        Unit,
        database::test_store::{Kind, TestStore},
        rotations::{self, Locked, batches},
    };

    async fn started(unit: &Unit, keyring: Uuid) -> Locked {
        let ana = Principal::os("ana", "clinic");
        let started = rotations::start(unit, keyring, RotationReason::Schedule, &ana).await;
        rotations::lock(unit, started.unwrap().id).await.unwrap()
    }

    /// Plans so many batches in the rotation's pass, and dispatches so many of them.
    async fn plan(unit: &Unit, rotation: &Locked, planned: i64, dispatched: u32) {
        let part = PartId {
            name: "patients".to_owned(),
            form: String::new(),
        };
        let table = Uuid::now_v7();
        for first in 0..planned {
            let range = Range { first, last: first };
            let planned = batches::plan(unit, rotation, table, (&part, range), None).await;
            planned.unwrap();
        }
        batches::dispatch(unit, rotation, dispatched).await.unwrap();
    }

    async fn in_flight(unit: &Unit) -> Vec<batches::Batch> {
        let found = batches::to_resend(unit.db(), i64::MAX, i64::MAX).await;
        found.unwrap()
    }

    /// One of each.
    const DID: Tally = Tally {
        rows: 1,
        moved: 20,
        conflicts: 300,
        quarantined: 4_000,
        opened: 50_000,
    };

    #[tokio::test]
    async fn what_was_moved_is_of_all_passes_and_what_is_in_quarantine_of_the_latest() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await.id;
            let unit = store.unit().await;
            let first = started(&unit, keyring).await;
            assert_eq!(of(unit.db(), &first).await.unwrap(), Progress::default());
            plan(&unit, &first, 2, 2).await;
            for batch in in_flight(&unit).await {
                batches::finish(&unit, &first, &batch, DID).await.unwrap();
            }
            let tally = of(unit.db(), &first).await.unwrap().tally;
            assert_eq!((tally.moved, tally.quarantined), (40, 8_000));

            rotations::sweep_again(&unit, &first, None).await.unwrap();
            let second = rotations::lock(&unit, first.id).await.unwrap();
            plan(&unit, &second, 7, 5).await;
            let batches = in_flight(&unit).await;
            batches::finish(&unit, &second, &batches[0], DID)
                .await
                .unwrap();
            batches::void(&unit, &second, &batches[1], DID)
                .await
                .unwrap();
            batches::fail(&unit, &second, &batches[2], "a test")
                .await
                .unwrap();
            let progress = of(unit.db(), &second).await.unwrap();
            let expected = Tally {
                rows: 4,
                moved: 80,
                conflicts: 1_200,
                quarantined: 4_000,
                opened: 50_000,
            };
            assert_eq!(progress.tally, expected);
            assert_eq!((progress.done, progress.batches), (1, 6), "one is void");
            let left = unfinished(unit.db(), &second).await.unwrap();
            assert_eq!((left.planned, left.dispatched, left.failed), (2, 2, 1));
            let why = batches::why_failed(unit.db(), &second).await.unwrap();
            assert_eq!(why.as_deref(), Some("a test"));
            batches::replan_failed(&unit, &second).await.unwrap();
            let left = unfinished(unit.db(), &second).await.unwrap();
            assert_eq!((left.planned, left.dispatched, left.failed), (3, 2, 0));
            let why = batches::why_failed(unit.db(), &second).await.unwrap();
            assert_eq!(why, None);
        }
    }

    #[tokio::test]
    async fn what_a_batch_asks_of_its_rotation_reads_no_batch_that_is_done() {
        let store = TestStore::new(Kind::Postgres).await;
        let keyring = store.keyring("phi").await.id;
        let unit = store.unit().await;
        let rotation = started(&unit, keyring).await;
        let done = format!(
            "INSERT INTO batch (id, rotation_id, table_id, pass, part, part_form, first, last, state, \
             resend_at, moved, conflicts, quarantined) \
             SELECT gen_random_uuid(), '{id}', '{id}', 0, '', '', n, n, \
             CASE WHEN n % 1000 = 0 THEN 'DISPATCHED' ELSE 'DONE' END, 0, 1, 0, 0 \
             FROM generate_series(1, 20000) n",
            id = rotation.id
        );
        unit.db().execute_unprepared(&done).await.unwrap();
        unit.db().execute_unprepared("ANALYZE batch").await.unwrap();
        let left = unfinished(unit.db(), &rotation).await.unwrap();
        assert_eq!(left.dispatched, 20);
        let plan = format!(
            "EXPLAIN (ANALYZE, FORMAT TEXT) SELECT state, count(state) FROM batch \
             WHERE rotation_id = '{}' AND pass = 0 AND state IN ('PLANNED', 'DISPATCHED', 'FAILED') \
             GROUP BY state",
            rotation.id
        );
        let plan = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, plan);
        let plan = unit.db().query_all_raw(plan).await.unwrap();
        let lines = plan.iter().map(|row| row.try_get_by_index(0).unwrap());
        let plan = lines.collect::<Vec<String>>().join("\n");
        assert!(
            plan.contains("ix_batch_rotation_id_pass_state") && !plan.contains("Seq Scan"),
            "{plan}"
        );
    }
}
