//! Partitions and tables that inherit: every heap is a part, and known by its form.

use rekey_domain::{BindValue, Found};
use rekey_sources::{SourceError, StoredValue, WriteOutcome};

use super::{
    fixture::{Fixture, NEW, OLD, ciphertext, patient, ssn, swap, target_of, write_to},
    postgres_fixture::{PARTITIONED, PostgresFixture, census, old, read_parts},
};

#[tokio::test]
async fn every_leaf_partition_is_a_part() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    let insert = format!(
        "INSERT INTO visits SELECT c, i, {} FROM generate_series(1, 2) c, generate_series(1, 150) i",
        old()
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    let parts = source.parts("visits").await.unwrap();
    let names: Vec<_> = parts.iter().map(|part| part.id.name.as_str()).collect();
    let expected = [
        r#""archive"."visits_2_high""#,
        r#""public"."visits_1""#,
        r#""public"."visits_2_low""#,
    ];
    assert_eq!(names, expected);
    assert_eq!(census(&**source, "visits").await, [(Found::Key(OLD), 300)]);
    let rows = read_parts(&**source, "visits", &["clinic", "id"]).await;
    assert_eq!(rows.len(), 300);
    for (query, row) in &rows {
        let new = StoredValue::Bytes(ciphertext(NEW, 2, 60));
        let target = target_of("visits", query.part.clone());
        let written = write_to(source, &target, &[swap(row, &ssn(), new)]).await;
        assert_eq!(written, [WriteOutcome::Written]);
    }
    assert_eq!(census(&**source, "visits").await, [(Found::Key(NEW), 300)]);
    assert!(read_parts(&**source, "visits", &[]).await.is_empty());
    assert_eq!(rows[0].1.name.as_deref(), Some("clinic=2,id=100"));
}

#[tokio::test]
async fn tables_that_inherit_are_parts() {
    let fixture = PostgresFixture::new().await;
    fixture
        .execute("CREATE TABLE vips (rank INT) INHERITS (patients)")
        .await;
    fixture.insert(&[patient(1, OLD)]).await;
    let insert = format!("INSERT INTO vips VALUES (2, 'b', {}, NULL, 7, 1)", old());
    fixture.execute(&insert).await;
    let rows = read_parts(&**fixture.source(), "patients", &["id"]).await;
    let ids: Vec<_> = rows.iter().map(|(_, row)| row.binds[0].clone()).collect();
    assert_eq!(ids, [1, 2].map(|id| Some(BindValue::Integer(id))));
    let counted = census(&**fixture.source(), "patients").await;
    assert_eq!(counted, [(Found::Key(OLD), 2)]);
}

#[tokio::test]
async fn a_part_that_was_written_anew_or_left_is_known() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    let insert = format!(
        "INSERT INTO visits SELECT 1, i, {} FROM generate_series(1, 9) i",
        old()
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    let forms = async || {
        let parts = source.parts("visits").await.unwrap();
        parts.into_iter().map(|part| part.id).collect::<Vec<_>>()
    };
    for (rewrites, sql) in [
        (true, "VACUUM FULL visits_1"),
        (true, "CLUSTER visits_1 USING visits_1_pkey"),
        (false, "VACUUM visits_1"),
        (false, "CREATE INDEX ON visits (ssn)"),
        (true, "ALTER TABLE visits DETACH PARTITION visits_1"),
        (
            true,
            "ALTER TABLE visits ATTACH PARTITION visits_1 FOR VALUES IN (1)",
        ),
        (true, "DROP TABLE visits_1"),
    ] {
        let before = forms().await;
        let rows = read_parts(&**source, "visits", &[]).await;
        fixture.execute(sql).await;
        assert_eq!(forms().await != before, rewrites, "{sql}");
        let Some((query, _)) = rows.first() else {
            continue;
        };
        let read = source.read(query, None, 1 << 20).await;
        if rewrites {
            assert!(
                matches!(read, Err(SourceError::PartChanged { .. })),
                "{sql}: {read:?}"
            );
        } else {
            assert_eq!(read.unwrap().rows.len(), 9, "{sql}");
        }
    }
}

/// A row that moves between two ranges while they are counted is counted once.
#[tokio::test]
async fn a_census_is_of_one_moment() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    let insert = format!(
        "INSERT INTO visits SELECT 1, i, {} FROM generate_series(1, 20) i; \
         INSERT INTO visits SELECT 2, i, {} FROM generate_series(200, 219) i",
        old(),
        old()
    );
    fixture.execute(&insert).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let moving = async {
        let mut turn = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            // From partition to partition, and back.
            fixture
                .execute("UPDATE visits SET clinic = 3 - clinic WHERE id < 100")
                .await;
            turn += 1;
        }
        turn
    };
    let counting = async {
        for _ in 0..20 {
            let counted = census(&**fixture.source(), "visits").await;
            assert_eq!(counted, [(Found::Key(OLD), 40)]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (turns, ()) = tokio::join!(moving, counting);
    assert!(turns > 5, "{turns}");
}
