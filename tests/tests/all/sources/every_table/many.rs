//! A table of many small partitions: they share batches, and one that is in the way holds up no other.

use std::sync::Arc;

use rekey_broker::LocalTransport;
use rekey_domain::{Bind, BindValue, QuarantineReason, RotationState};
use rekey_operations::quarantine_views;
use rekey_tests::support::{Engine, open, operator, until};

use super::clinic::{Clinic, Database, Kind, column, table};

const VISITS: &str = "CREATE TABLE visits (ward INT NOT NULL, n INT NOT NULL, finding BYTEA, note TEXT, \
    PRIMARY KEY (ward, n)) PARTITION BY LIST (ward);";

/// Four rows of two values in each of so many partitions.
async fn clinic(parts: i64) -> Clinic {
    of(parts, 4, &["finding", "note"]).await
}

async fn of(parts: i64, rows: i64, columns: &[&str]) -> Clinic {
    let made = (0..parts).map(|ward| {
        format!("CREATE TABLE visits_{ward} PARTITION OF visits FOR VALUES IN ({ward});")
    });
    let mut clinic = Clinic::on(
        Kind::Postgres,
        &format!("{VISITS}{}", String::from_iter(made)),
    )
    .await;
    clinic.policy.batch_rows = 500;
    let columns = columns.iter().map(|name| column(name, Bind::Row)).collect();
    clinic
        .protect(vec![table("visits", "visits", columns)])
        .await;
    let ward = |n: i64| vec![("ward", BindValue::Integer(n % parts))];
    clinic.fill("visits", 1..=rows * parts, ward).await;
    clinic
}

async fn in_store(clinic: &Clinic, sql: &'static str) -> i64 {
    let store = open(clinic.disks.state("store.db"), false).await;
    sqlx::query_scalar(sql).fetch_one(&store).await.unwrap()
}

const DONE: &str = "SELECT count(*) FROM batch WHERE state = 'DONE'";
const DONE_BESIDE: &str = "SELECT count(*) FROM batch WHERE state = 'DONE' AND led_by IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_partitions_share_batches() {
    let clinic = clinic(200).await;
    let view = clinic.rotates().await;
    assert_eq!(
        (view.passes, view.batches),
        (2, 200),
        "each has its own proof"
    );
    assert_eq!(in_store(&clinic, DONE).await, 400);
    let beside = in_store(&clinic, DONE_BESIDE).await;
    assert_eq!(400 - beside, 2 * 4, "64 at most share one");
}

/// Measured by hand, on an idle machine.
#[expect(clippy::print_stdout, reason = "it is what one runs it for")]
#[ignore = "takes minutes, most of it to make the partitions"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_values_in_2500_partitions() {
    let clinic = of(2_500, 5, &["finding"]).await;
    let view = clinic.rotates().await;
    println!(
        "{} values in {:?}",
        view.moved,
        view.ended_at.unwrap() - view.requested_at
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_of_one_part_is_left_to_a_batch_of_its_own() {
    let clinic = clinic(60).await;
    clinic
        .execute("UPDATE visits SET finding = '\\x00' WHERE ward = 9 AND n = 9")
        .await;
    let Database::Postgres(_, pool) = &clinic.database else {
        unreachable!("it is on PostgreSQL");
    };
    let mut held = pool.begin().await.unwrap();
    let lock = "SELECT 1 FROM visits WHERE ward = 7 FOR UPDATE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    until("all parts but the one that is locked", async || {
        (in_store(&clinic, DONE).await == 59).then_some(())
    })
    .await;
    assert_eq!(in_store(&clinic, DONE_BESIDE).await, 57);
    // Written anew between the passes: its batch is void, and it is planned again.
    clinic.administer("VACUUM FULL visits_11").await;
    held.rollback().await.unwrap();
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    let left = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    let reasons: Vec<_> = left.iter().map(|value| value.reason).collect();
    assert_eq!(reasons, [QuarantineReason::NotCiphertext]);
    let there = "SELECT sum(num_nonnulls(finding, note))::text FROM visits";
    let there: i64 = clinic.texts(there).await[0].parse().unwrap();
    assert_eq!(view.moved, u64::try_from(there - 1).unwrap());
}

/// As a kill leaves it between telling and writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_attempt_left_in_doubt_is_found_out_alone() {
    let clinic = clinic(30).await;
    let transport = Arc::new(LocalTransport::new(clinic.workers.store.clone()));
    let mut engine = Engine::default();
    engine.listen(&clinic.workers, transport.clone());
    engine.rotator(&clinic.workers, transport.clone());
    clinic.ask("phi").await;
    let planned = "SELECT count(*) FROM batch WHERE state = 'PLANNED' AND led_by IS NOT NULL";
    until("a plan", async || {
        (in_store(&clinic, planned).await == 29).then_some(())
    })
    .await;
    let store = open(clinic.disks.state("store.db"), true).await;
    let doubt = "UPDATE batch SET in_doubt = '{\"rows\":4,\"values\":6,\"from\":[0,1],\"to\":[0,4]}' \
        WHERE part LIKE '%visits_1%' AND led_by IS NOT NULL";
    let in_doubt = sqlx::query(doubt)
        .execute(&store)
        .await
        .unwrap()
        .rows_affected();
    assert!(in_doubt > 5, "{in_doubt}");
    engine.re_encryptor(&clinic.workers, transport);
    engine.scheduler(&clinic.workers);
    let view = clinic.completes("phi").await;
    engine.stop().await;
    let there = "SELECT sum(num_nonnulls(finding, note))::text FROM visits";
    let there: u64 = clinic.texts(there).await[0].parse().unwrap();
    assert_eq!(view.moved, there, "nothing of them was written");
    let alone = "SELECT count(*) FROM batch WHERE pass = 0 AND led_by IS NULL";
    assert_eq!(in_store(&clinic, alone).await.unsigned_abs(), in_doubt + 1);
}

/// Code of the owner's own may change what is read next: such tables are read part by part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_where_something_fires_are_written_one_by_one() {
    let mut clinic = clinic(20).await;
    let sql = "CREATE TABLE seen (n INT); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN INSERT INTO seen VALUES (NEW.n); RETURN NEW; END'; GRANT INSERT ON seen TO PUBLIC; \
        CREATE TRIGGER see BEFORE UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION see()";
    clinic.execute(sql).await;
    let mut tables = clinic.tables().to_vec();
    tables[0].on_update.triggers = Some(rekey_domain::Triggers::Fire);
    clinic.protect(tables).await;
    let view = clinic.rotates().await;
    let seen = "SELECT count(*)::text FROM seen";
    let seen: u64 = clinic.texts(seen).await[0].parse().unwrap();
    assert_eq!(seen, view.rows);
}
