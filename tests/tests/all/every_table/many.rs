//! A table of very many small partitions, which take no longer than their rows.

use std::time::Instant;

use rekey_domain::{Bind, BindValue};

use super::clinic::{Clinic, Kind, column, table};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_partitions_share_batches() {
    let parts: i64 = std::env::var("MANY_PARTS").map_or(500, |many| many.parse().unwrap());
    let mut clinic = Clinic::on(
        Kind::Postgres,
        "CREATE TABLE visits (ward INT NOT NULL, n INT NOT NULL, finding BYTEA, PRIMARY KEY (ward, n)) PARTITION BY LIST (ward)",
    )
    .await;
    for first in (0..parts).step_by(250) {
        clinic
            .execute(&format!(
                "DO $$ BEGIN FOR ward IN {first}..{} LOOP EXECUTE format( \
                 'CREATE TABLE visits_%s PARTITION OF visits FOR VALUES IN (%s)', ward, ward); END LOOP; END $$",
                (first + 250).min(parts) - 1
            ))
            .await;
    }
    clinic.policy.batch_rows = 500;
    clinic
        .protect(vec![table(
            "visits",
            "visits",
            vec![column("finding", Bind::Row)],
        )])
        .await;
    let values = |n: i64| vec![("ward", BindValue::Integer(n % parts))];
    for first in (1..=4 * parts).step_by(1_000) {
        let rows = first..(first + 1_000).min(4 * parts + 1);
        clinic.fill("visits", rows, values).await;
    }
    let began = Instant::now();
    clinic.rotates().await;
    eprintln!("{parts} parts: {:?}", began.elapsed());
}
