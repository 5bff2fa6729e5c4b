//! Messages for every process, over the local transport: each process reads them all, once.

use std::{collections::HashSet, time::Duration};

use rekey_messages::Queue;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use crate::{Store, StoreError, database_time, messaging::entities::outbox};

/// For how long a message can be read. A unit dates its messages when it begins and shows them when it commits, and no
/// unit takes this long. A process that looks less often holds no lease any more.
const READABLE: Duration = Duration::from_secs(120);
/// After this its row is removed, or if it lies further ahead, as after a step of the clock.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// What one process has read of the messages that no shared queue handles: those for every process,
/// and facts for whoever listens.
///
/// Rows become visible in another order than that of their ids and times, so what was read is
/// remembered one by one for as long as it could be read again.
#[derive(Debug, Default)]
pub struct Broadcasts {
    read: HashSet<Uuid>,
}

impl Broadcasts {
    /// The messages that became visible since the last call, oldest first, as JSON.
    ///
    /// # Errors
    /// [`StoreError`] of the database; the next call then returns these messages too.
    pub async fn next(&mut self, store: &Store) -> Result<Vec<String>, StoreError> {
        let since = database_time(store.db()).await? - millis(READABLE);
        let rows: Vec<(Uuid, String)> = outbox::Entity::find()
            .select_only()
            .columns([outbox::Column::Id, outbox::Column::Event])
            .filter(is_broadcast())
            .filter(outbox::Column::AvailableAt.gt(since))
            .order_by_asc(outbox::Column::Id)
            .into_tuple()
            .all(store.db())
            .await?;
        let read = rows.iter().map(|(id, _)| *id).collect();
        let before = std::mem::replace(&mut self.read, read);
        let unread = rows.into_iter().filter(|(id, _)| !before.contains(id));
        Ok(unread.map(|(_, event)| event).collect())
    }
}

/// Removes what every process has had time to read. Only for the local transport: a relay removes
/// what it has sent.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn prune(store: &Store) -> Result<u64, StoreError> {
    let now = database_time(store.db()).await?;
    let kept = millis(KEPT);
    let old = Condition::any()
        .add(outbox::Column::AvailableAt.lt(now - kept))
        .add(outbox::Column::AvailableAt.gt(now + kept));
    let old = Condition::all().add(is_broadcast()).add(old);
    // Looking first costs no write lock where there is nothing to do.
    if outbox::Entity::find()
        .filter(old.clone())
        .count(store.db())
        .await?
        == 0
    {
        return Ok(0);
    }
    let unit = store.begin().await?;
    let pruned = outbox::Entity::delete_many()
        .filter(old)
        .exec(unit.db())
        .await?;
    unit.commit_quietly().await?;
    Ok(pruned.rows_affected)
}

/// Whether no shared queue handles a message.
pub(crate) fn is_broadcast() -> Condition {
    Condition::any()
        .add(outbox::Column::Queue.is_null())
        .add(outbox::Column::Queue.eq(Queue::EveryProcess.to_string()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("minutes fit")
}

#[cfg(test)]
mod tests {
    use rekey_domain::RotationKind;
    use rekey_messages::{KeyringChanged, RotationCompleted, RotationDue};
    use sea_orm::sea_query::{Expr, ExprTrait};

    use super::*;
    use crate::{
        Unit,
        database::test_store::{Kind, TestStore},
        messaging::outbox::{depth, lease_next},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    async fn change(unit: &Unit) {
        let keyring = "phi".parse().unwrap();
        unit.send(&KeyringChanged { keyring }).await.unwrap();
    }

    async fn send(store: &TestStore) {
        let unit = store.unit().await;
        change(&unit).await;
        unit.commit().await.unwrap();
    }

    async fn let_pass(store: &TestStore, time: Duration) {
        let unit = store.unit().await;
        let earlier = Expr::col(outbox::Column::AvailableAt).sub(millis(time));
        let all = outbox::Entity::update_many().col_expr(outbox::Column::AvailableAt, earlier);
        all.exec(unit.db()).await.unwrap();
        unit.commit().await.unwrap();
    }

    async fn next(reader: &mut Broadcasts, store: &Store) -> usize {
        reader.next(store).await.unwrap().len()
    }

    #[tokio::test]
    async fn messages_for_every_process_and_facts_reach_each_process_once_and_no_queue() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let (mut here, mut there) = (Broadcasts::default(), Broadcasts::default());
            let unit = store.unit().await;
            change(&unit).await;
            let rotation = Uuid::now_v7();
            let completed = RotationCompleted {
                rotation,
                key: "phi/2".parse().unwrap(),
                kind: RotationKind::default(),
            };
            unit.send(&completed).await.unwrap();
            unit.send(&RotationDue { rotation }).await.unwrap();
            unit.commit().await.unwrap();
            for (reader, store) in [(&mut here, &*store), (&mut there, &elsewhere)] {
                assert_eq!(next(reader, store).await, 2);
                assert_eq!(next(reader, store).await, 0);
            }
            assert_eq!(depth(&store).await.unwrap(), 1, "what waits for a worker");
            let other = lease_next(&store, &[Queue::ReEncryptor], MINUTE).await;
            assert!(other.unwrap().is_none());
            let due = lease_next(&store, &[Queue::Rotator], MINUTE).await;
            assert!(due.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn a_message_whose_unit_commits_after_later_ones_is_read_too() {
        // SQLite has one writer at a time.
        let store = TestStore::new(Kind::Postgres).await;
        let mut reader = Broadcasts::default();
        let slow = store.unit().await;
        change(&slow).await;
        send(&store).await;
        assert_eq!(next(&mut reader, &store).await, 1);
        slow.commit().await.unwrap();
        assert_eq!(next(&mut reader, &store).await, 1);
        assert_eq!(next(&mut reader, &store).await, 0);
    }

    #[tokio::test]
    async fn what_every_process_had_time_to_read_is_removed_and_nothing_else() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let unit = store.unit().await;
            let rotation = Uuid::now_v7();
            unit.send(&RotationDue { rotation }).await.unwrap();
            unit.commit().await.unwrap();
            send(&store).await;
            assert_eq!(prune(&store).await.unwrap(), 0);
            let_pass(&store, READABLE + MINUTE).await;
            assert_eq!(next(&mut Broadcasts::default(), &store).await, 0);
            assert_eq!(prune(&store).await.unwrap(), 0);
            let_pass(&store, KEPT).await;
            assert_eq!(prune(&store).await.unwrap(), 1);
            assert_eq!(depth(&store).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn after_a_step_of_the_clock_messages_are_read_once_and_removed() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let mut reader = Broadcasts::default();
            send(&store).await;
            assert_eq!(next(&mut reader, &store).await, 1);
            // The database's clock was stepped back by an hour since.
            let unit = store.unit().await;
            let ahead = unit.database_time_in(60 * MINUTE);
            let all = outbox::Entity::update_many()
                .col_expr(outbox::Column::AvailableAt, Expr::value(ahead));
            all.exec(unit.db()).await.unwrap();
            unit.commit().await.unwrap();
            send(&store).await;
            assert_eq!(next(&mut reader, &store).await, 1);
            assert_eq!(prune(&store).await.unwrap(), 1);
        }
    }
}
