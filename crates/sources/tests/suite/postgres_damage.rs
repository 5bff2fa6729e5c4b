//! Values, bind columns and blocks that the server cannot read: all but them is read and counted, and they are named.

use std::collections::HashSet;

use rekey_domain::{Found, TextEncoding};
use rekey_sources::{
    Measure, Page, PassToShow, ReadQuery, SourceError, SourceRow, StoredValue, ValueId,
};
use rekey_testkit::PrivatePostgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    fixture::{
        Fixture, NEW, OLD, Patient, ReadColumnExt, census_of, ciphertext, id, notes, patient,
        runtime, ssn, whole,
    },
    passes::pass_over,
    postgres_fixture::PostgresFixture,
};

/// So wide that it lies apart, in three chunks.
const WIDE: usize = 5_000;

/// So many patients under the old key, whose values lie apart.
async fn clinic(rows: i64) -> PostgresFixture {
    let fixture = PostgresFixture::new().await;
    let patients: Vec<_> = (1..=rows).map(wide).collect();
    fixture.execute("CREATE EXTENSION pg_surgery").await;
    fixture.insert(&patients).await;
    fixture
}

fn wide(id: i64) -> Patient {
    let notes = rekey_envelope::encode_base64(&ciphertext(OLD, id as u64, WIDE));
    Patient {
        ssn: Some(ciphertext(OLD, id as u64, WIDE)),
        notes: Some(notes),
        ..patient(id, OLD)
    }
}

/// Kills the chunks of a value from this one on, as a disk that loses blocks does.
async fn kill(fixture: &PostgresFixture, column: &str, id: i64, from_chunk: i32) {
    let value = match column {
        "ssn" => "p.ssn".to_owned(),
        text => format!("convert_to(p.{text}, 'UTF8')"),
    };
    let application = &fixture.application;
    let toast =
        "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'patients'::regclass";
    let toast: String = sqlx::query_scalar(toast)
        .fetch_one(application)
        .await
        .unwrap();
    let chunks = format!(
        "SELECT array_agg(t.ctid)::text FROM {toast} t WHERE t.chunk_seq >= {from_chunk} \
         AND t.chunk_id = (SELECT c.chunk_id FROM {toast} c, patients p \
         WHERE p.id = {id} AND c.chunk_seq = 0 \
         AND substr(c.chunk_data, 1, 100) = substr({value}, 1, 100))"
    );
    let chunks: String = sqlx::query_scalar(AssertSqlSafe(chunks))
        .fetch_one(application)
        .await
        .unwrap();
    let kill = format!("SELECT heap_force_kill('{toast}'::regclass, '{chunks}'::tid[])");
    fixture.execute(&kill).await;
}

/// Reads to the end, in pages of this size; the numbers of the rows, and those that are damaged.
async fn read(
    fixture: &PostgresFixture,
    query: &ReadQuery,
    bytes: usize,
) -> (Vec<i64>, Vec<(i64, SourceRow)>) {
    let (mut read, mut damaged, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let Page { rows, next } = fixture.source().read(query, after, bytes).await.unwrap();
        for row in rows {
            let is_damaged = row.binds_damaged.is_some() || code(&row).is_some();
            if is_damaged {
                damaged.push((row.binds[0].as_ref().map_or(0, |_| id(&row)), row));
            } else {
                read.push(id(&row));
            }
        }
        after = next;
        if after.is_none() {
            return (read, damaged);
        }
    }
}

fn code(row: &SourceRow) -> Option<String> {
    row.values.iter().flatten().find_map(|value| match value {
        StoredValue::Unreadable(damage) => Some(damage.code.clone()),
        _ => None,
    })
}

#[test]
fn a_value_that_cannot_be_read_is_named_and_all_others_are_read() {
    runtime().block_on(async {
        let fixture = clinic(100).await;
        kill(&fixture, "ssn", 7, 0).await;
        kill(&fixture, "notes", 99, 1).await;
        for settled in [vec![], vec![NEW]] {
            let columns = [ssn(), notes()].map(|column| rekey_sources::ReadColumn {
                settled: settled.clone(),
                ..column
            });
            let query = whole(fixture.source(), columns.to_vec()).await;
            for bytes in [1 << 30, 40_000, 1] {
                let (read, damaged) = read(&fixture, &query, bytes).await;
                let others: Vec<_> = (1..=100).filter(|id| ![7, 99].contains(id)).collect();
                assert_eq!(read, others);
                let [(7, first), (99, second)] = &damaged[..] else {
                    panic!("{damaged:?}")
                };
                for row in [first, second] {
                    assert_eq!(code(row).unwrap(), "SQLSTATE XX001");
                    let readable = row.values.iter().flatten();
                    let readable = readable.filter(|value| value.size() > 0);
                    assert_eq!(readable.count(), 1, "its other value is there: {row:?}");
                }
            }
        }
    });
}

#[test]
fn a_census_counts_what_cannot_be_read_and_tells_it_from_what_can() {
    runtime().block_on(async {
        let fixture = clinic(120).await;
        kill(&fixture, "ssn", 7, 0).await;
        kill(&fixture, "ssn", 90, 0).await;
        let counted = census_of(fixture.source(), "patients", &ssn()).await;
        let old = Found::Key(OLD);
        assert_eq!(counted.unwrap(), [(old, 118), (Found::Unreadable, 2)]);
        let sampled = fixture
            .source()
            .sample("patients", &[ssn().to_count(), notes().to_count()], 1_000)
            .await
            .unwrap();
        assert_eq!(sampled.counts[0], [(old, 118), (Found::Unreadable, 2)]);
        assert_eq!(sampled.counts[1], [(old, 120)]);
        for how in [Measure::Estimate, Measure::Count] {
            let columns = [ssn().to_count()];
            let measured = fixture.source().measure("patients", &columns, how).await;
            assert_eq!(measured.unwrap().columns[0].values, 120);
        }
    });
}

async fn shown(fixture: &PostgresFixture, pass: &PassToShow) -> Vec<(Found, u64, u64)> {
    let columns = [ssn().to_count(), notes().to_count()];
    let counted = fixture.source().census("patients", &columns, Some(pass));
    let counted = counted.await.unwrap().remove(0).into_iter();
    counted
        .map(|one| (one.found, one.values, one.left))
        .collect()
}

/// By part, place, and that it cannot be read: what comes back under an old key is a straggler.
#[test]
fn what_a_pass_left_as_unreadable_is_that_and_nothing_else() {
    runtime().block_on(async {
        let fixture = clinic(3).await;
        kill(&fixture, "ssn", 1, 0).await;
        // Of this one its start can be read, and says that it is under the old key.
        kill(&fixture, "ssn", 2, 1).await;
        let pass = pass_over(fixture.source()).await;
        let old = Found::Key(OLD);
        assert_eq!(
            shown(&fixture, &pass).await,
            [(old, 2, 2), (Found::Unreadable, 1, 1)]
        );
        let without = |which: usize| {
            let mut pass = pass.clone();
            let mut ids: Vec<_> = pass.left[0].drain().collect();
            ids.sort_unstable();
            ids[which] = "another".to_owned().into();
            pass.left[0] = HashSet::from_iter(ids);
            pass
        };
        for which in 0..3 {
            let shown = shown(&fixture, &without(which)).await;
            let left: u64 = shown.iter().map(|(_, _, left)| left).sum();
            assert!(left < 3, "{shown:?}");
        }
        // The value comes back to its place, as from a disk that was away for a while.
        let query = whole(fixture.source(), vec![ssn()]).await;
        let key = fixture.source().read(&query, None, 1 << 30).await.unwrap();
        let key = key.rows[0].key;
        let back = StoredValue::Bytes(ciphertext(OLD, 1, WIDE));
        let back = ValueId::of(&query.part, key, &back, TextEncoding::Binary);
        assert!(!pass.left[0].contains(&back));
    });
}

#[test]
fn what_is_left_alone_by_its_form_is_left_alone_though_its_end_is_damaged() {
    runtime().block_on(async {
        let fixture = clinic(2).await;
        fixture.store_ssn(2, &ciphertext(NEW, 2, WIDE)).await;
        kill(&fixture, "ssn", 2, 1).await;
        kill(&fixture, "ssn", 1, 0).await;
        let query = whole(fixture.source(), vec![ssn()]).await;
        let (read, damaged) = read(&fixture, &query, 1 << 30).await;
        assert_eq!((read.len(), damaged.len()), (0, 1));
        assert_eq!(damaged[0].0, 1);
    });
}

#[test]
fn a_bind_column_that_cannot_be_read_is_told_from_its_value() {
    runtime().block_on(async {
        let fixture = clinic(3).await;
        let long: String = (0..3_000)
            .map(|n| char::from(b'a' + (n * n % 23) as u8))
            .collect();
        fixture
            .execute(&format!(
                "ALTER TABLE patients ALTER name SET STORAGE EXTERNAL; \
                 UPDATE patients SET name = id || '{long}'"
            ))
            .await;
        kill(&fixture, "name", 2, 0).await;
        let mut query = whole(fixture.source(), vec![ssn()]).await;
        query.bind_columns = vec!["id".to_owned(), "name".to_owned()];
        let (read, damaged) = read(&fixture, &query, 1 << 30).await;
        assert_eq!(read, [1, 3]);
        let (_, row) = &damaged[0];
        assert_eq!(row.binds_damaged.as_deref(), Some("SQLSTATE XX001"));
        let value = row.values[0].as_ref().unwrap();
        assert_eq!(value.size(), WIDE, "the value itself is there");
    });
}

/// Code of the table's owner runs when a query is planned, and may say that data are corrupted. It tells that it is
/// about to by lock 40, and waits for 41; once somebody has 42, it does not.
#[test]
fn what_fails_once_is_no_damage() {
    runtime().block_on(async {
        let fixture = clinic(30).await;
        let mut query = whole(fixture.source(), vec![ssn()]).await;
        query.trusts_code = true;
        let mut other = PgConnection::connect(&fixture.database.url()).await.unwrap();
        let run = async |other: &mut PgConnection, sql: &'static str| {
            let done: bool = sqlx::query_scalar(sql).fetch_one(other).await.unwrap();
            done
        };
        const HELD: &str = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid =";
        let made = format!(
            "SELECT pg_advisory_lock(42); \
             CREATE FUNCTION fail_once(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
             IF NOT {HELD} 42) THEN PERFORM pg_advisory_lock(40); PERFORM pg_advisory_lock_shared(41); \
             RAISE EXCEPTION USING ERRCODE = 'XX001'; END IF; RETURN 1; END $$; \
             CREATE INDEX fails ON patients ((fail_once(1))); SELECT pg_advisory_unlock(42)"
        );
        fixture.execute(&made).await;
        run(&mut other, "SELECT pg_advisory_lock(41) IS NOT NULL").await;
        let source = fixture.source();
        let (page, ()) = tokio::join!(source.read(&query, None, 1 << 30), async {
            let fails = format!("SELECT {HELD} 40)");
            while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(fails.clone()))
                .fetch_one(&mut other)
                .await
                .unwrap()
            {}
            run(&mut other, "SELECT pg_advisory_lock(42) IS NOT NULL").await;
            run(&mut other, "SELECT pg_advisory_unlock(41)").await;
        });
        let page = page.unwrap();
        let ids: Vec<_> = page.rows.iter().map(id).collect();
        assert_eq!(ids, (1..=30).collect::<Vec<_>>());
        assert!(page.rows.iter().all(|row| code(row).is_none()));
    });
}

/// Nobody knows the rows of a block that cannot be read, so nothing is said of its table.
#[test]
fn a_block_that_cannot_be_read_is_named() {
    runtime().block_on(async {
        let mut server = PrivatePostgres::start().unwrap();
        let fixture = PostgresFixture::at(&server.url()).await;
        let patients: Vec<_> = (1..=300).map(|id| patient(id, OLD)).collect();
        fixture.insert(&patients).await;
        let query = whole(fixture.source(), vec![ssn()]).await;
        let file = "SELECT pg_relation_filepath('patients')";
        let file: String = sqlx::query_scalar(file)
            .fetch_one(&fixture.application)
            .await
            .unwrap();
        // Behind the server's back; what it has in memory is what it knows until it starts again.
        let overwrite = format!(
            "CHECKPOINT; COPY (SELECT 1) TO PROGRAM \
             'head -c 8192 /dev/urandom | dd of={file} bs=8192 seek=2 conv=notrunc'"
        );
        for sql in overwrite.split("; ") {
            fixture.execute(sql).await;
        }
        server.kill();
        server.restart().unwrap();
        let source = rekey_sources::open(&fixture.database.url()).await.unwrap();
        for error in [
            source.read(&query, None, 1 << 30).await.unwrap_err(),
            census_of(&source, "patients", &ssn()).await.unwrap_err(),
        ] {
            let SourceError::Damaged { reason, code, .. } = &error else {
                panic!("{error:?}")
            };
            assert!(reason.contains("block 2"), "{error}");
            assert_eq!(code, "SQLSTATE XX001");
            assert!(!error.is_retryable());
        }
    });
}

/// What an administrator sets to get at the rest of a damaged table. Read so, a damaged page is an empty one.
#[tokio::test]
async fn where_damaged_pages_would_look_empty_nothing_is_read_and_nothing_counted() {
    for setting in ["zero_damaged_pages", "ignore_checksum_failure"] {
        let fixture = PostgresFixture::new().await;
        fixture.insert(&[patient(1, OLD)]).await;
        let set = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = on', current_database()); END $$"
        );
        fixture.execute(&set).await;
        let source = fixture.another().await;
        let query = whole(&source, vec![ssn()]).await;
        let read = source.read(&query, None, usize::MAX).await;
        let counted = source
            .census(
                "patients",
                &[ssn().to_count()],
                Some(&PassToShow::default()),
            )
            .await;
        for error in [read.map(drop).unwrap_err(), counted.map(drop).unwrap_err()] {
            let SourceError::HidesDamage { setting: found, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(found, setting);
        }
    }
}
