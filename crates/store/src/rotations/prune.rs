//! Pruning: batch rows of rotations that ended long ago are removed; what they add up to stays.

use chrono::{DateTime, Utc};
use rekey_domain::RotationState;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Order, Query, SelectStatement},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::Json,
    rotations::{
        self, Changes, Rotation,
        entities::{batch, rotation},
        progress::{self, Totals},
        speed,
    },
};

/// Rows that one unit removes: it holds them for milliseconds.
const STEP: u64 = 1_000;

/// The states that a rotation never leaves. One that failed is not among them: it may be retried, and
/// then its batches are.
const OVER: [RotationState; 3] = [
    RotationState::Completed,
    RotationState::Cancelled,
    RotationState::Superseded,
];

/// Removes some batch rows of one rotation that ended before; `false` where there are none any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn batches(unit: &Unit, ended_before: DateTime<Utc>) -> Result<bool, StoreError> {
    some(unit, ended_before, STEP).await
}

async fn some(unit: &Unit, ended_before: DateTime<Utc>, most: u64) -> Result<bool, StoreError> {
    let Some(found) = next(unit, ended_before).await? else {
        return Ok(false);
    };
    let rotation = rotations::lock(unit, found.id).await?;
    keep_totals(unit, &rotation).await?;
    let rows = of(rotation.id).limit(most).to_owned();
    batch::Entity::delete_many()
        .filter(batch::Column::Id.in_subquery(rows))
        .exec(unit.db())
        .await?;
    Ok(true)
}

/// The oldest rotation that ended before and has batch rows.
async fn next(unit: &Unit, ended_before: DateTime<Utc>) -> Result<Option<Rotation>, StoreError> {
    let over = rotation::Column::State.is_in(OVER.map(|state| state.to_string()));
    let id = Expr::col((rotation::Entity, rotation::Column::Id));
    let rows = Query::select()
        .expr(Expr::value(1))
        .from(batch::Entity)
        .and_where(Expr::col((batch::Entity, batch::Column::RotationId)).eq(id))
        .to_owned();
    let oldest = rotation::Entity::find()
        .filter(over)
        .filter(rotation::Column::EndedAt.lt(ended_before))
        .filter(Expr::exists(rows))
        .order_by_asc(rotation::Column::Id)
        .limit(1)
        .one(unit.db())
        .await?;
    Ok(oldest.map(Rotation::from))
}

/// Writes down what the batches add up to, in the unit that removes the first of them.
async fn keep_totals(unit: &Unit, rotation: &Rotation) -> Result<(), StoreError> {
    if rotation.totals.is_some() {
        return Ok(());
    }
    let totals = Totals {
        progress: progress::of(unit.db(), rotation).await?,
        rate: speed::of(unit.db(), rotation).await?,
    };
    let changes = Changes {
        totals: Set(Some(Json(totals))),
        ..Default::default()
    };
    rotations::update(unit, rotation, changes).await
}

/// The ids of a rotation's batch rows, in the order of an index: so no step reads past what earlier
/// ones removed.
fn of(rotation: Uuid) -> SelectStatement {
    Query::select()
        .column(batch::Column::Id)
        .from(batch::Entity)
        .and_where(batch::Column::RotationId.eq(rotation))
        .order_by(batch::Column::Pass, Order::Asc)
        .order_by(batch::Column::State, Order::Asc)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rekey_domain::{PartId, Principal, Range, RotationReason};
    use sea_orm::PaginatorTrait;

    use super::*;
    use crate::{
        database::test_store::{Kind, TestStore, now},
        rotations::{
            batches::{dispatch, finish, plan, to_resend},
            progress::{Progress, Tally},
        },
    };

    /// Three batches, of which two are done.
    async fn worked(store: &TestStore, keyring: &str) -> Rotation {
        let keyring = store.keyring(keyring).await.id;
        let unit = store.unit().await;
        let ana = Principal::os("ana", "clinic");
        let started = rotations::start(&unit, keyring, RotationReason::Request, &ana).await;
        let rotation = rotations::lock(&unit, started.unwrap().id).await.unwrap();
        let (table, name) = (Uuid::now_v7(), "patients".to_owned());
        let form = String::new();
        let part = PartId { name, form };
        for first in 0..3 {
            let range = Range { first, last: first };
            let planned = plan(&unit, &rotation, table, (&part, range), None).await;
            planned.unwrap();
        }
        dispatch(&unit, &rotation, 2).await.unwrap();
        let in_flight = to_resend(unit.db(), i64::MAX, i64::MAX).await.unwrap();
        for batch in in_flight
            .iter()
            .filter(|one| one.rotation_id == rotation.id)
        {
            let tally = Tally {
                rows: 1,
                moved: 2,
                conflicts: 3,
                quarantined: 4,
                opened: 0,
            };
            finish(&unit, &rotation, batch, tally).await.unwrap();
        }
        unit.commit().await.unwrap();
        rotation.into()
    }

    /// Brings it to a state that it was in since, and answers what people see of it.
    async fn ended(store: &TestStore, rotation: &Rotation, state: RotationState) -> Progress {
        let unit = store.unit().await;
        let live = state.is_live() || state == RotationState::Failed;
        let changes = Changes {
            state: Set(crate::database::stored::Text(state)),
            switched_at: Set(Some(now() - TimeDelta::minutes(1))),
            ended_at: Set((!live).then_some(now())),
            ..Default::default()
        };
        rotations::update(&unit, rotation, changes).await.unwrap();
        unit.commit().await.unwrap();
        seen(store, rotation).await.0
    }

    async fn seen(store: &TestStore, rotation: &Rotation) -> (Progress, u64, bool) {
        let rotation = rotations::by_id(store.db(), rotation.id).await.unwrap();
        let progress = progress::of(store.db(), &rotation).await.unwrap();
        let rate = speed::of(store.db(), &rotation).await.unwrap();
        let rows = batch::Entity::find().filter(batch::Column::RotationId.eq(rotation.id));
        let rows = rows.count(store.db()).await.unwrap();
        (progress, rows, rate.is_some())
    }

    async fn prune(store: &TestStore, ended_before: DateTime<Utc>) -> bool {
        let unit = store.unit().await;
        let more = some(&unit, ended_before, 2).await.unwrap();
        unit.commit().await.unwrap();
        more
    }

    #[tokio::test]
    async fn the_batches_of_a_rotation_that_ended_long_ago_are_removed_in_steps_and_its_figures_stay()
     {
        for kind in Kind::BOTH {
            for state in OVER {
                let store = TestStore::new(kind).await;
                let rotation = worked(&store, "phi").await;
                let figures = ended(&store, &rotation, state).await;
                assert_eq!((figures.tally.moved, figures.tally.quarantined), (4, 8));
                assert_eq!((figures.done, figures.batches), (2, 3));
                assert!(!prune(&store, now()).await, "it ended just now");
                assert_eq!(seen(&store, &rotation).await, (figures, 3, true));
                let later = now() + TimeDelta::seconds(1);
                for left in [1, 0] {
                    assert!(prune(&store, later).await);
                    assert_eq!(seen(&store, &rotation).await, (figures, left, true));
                }
                assert!(!prune(&store, later).await);
            }
        }
    }

    #[tokio::test]
    async fn batches_that_may_be_needed_again_stay() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let [failed, live] = [worked(&store, "phi").await, worked(&store, "billing").await];
            ended(&store, &failed, RotationState::Failed).await;
            ended(&store, &live, RotationState::Grace).await;
            assert!(!prune(&store, now() + TimeDelta::days(365)).await);
            for rotation in [failed, live] {
                assert_eq!(seen(&store, &rotation).await.1, 3);
            }
        }
    }

    #[tokio::test]
    async fn two_that_prune_at_once_write_the_same_totals() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let rotation = worked(&store, "phi").await;
            let figures = ended(&store, &rotation, RotationState::Completed).await;
            let prune = async |store: &crate::Store| {
                let unit = store.begin().await.unwrap();
                let later = now() + TimeDelta::seconds(1);
                some(&unit, later, 2).await.unwrap();
                unit.commit().await.unwrap();
            };
            tokio::join!(prune(&store), prune(&elsewhere));
            assert_eq!(seen(&store, &rotation).await.0, figures);
        }
    }
}
