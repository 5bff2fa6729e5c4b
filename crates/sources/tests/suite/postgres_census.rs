//! What else a census meets on PostgreSQL: heaps that are written anew, parts, and transactions that stay open.

use std::{collections::HashSet, time::Duration};

use rekey_domain::{Found, TextEncoding};
use rekey_sources::{CensusColumn, Counted, CountedBy, PassToShow, SourceError, ValueId};
use rekey_testkit::PrivatePostgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{
    fixture::{
        Fixture, NEW, OLD, Patient, ReadColumnExt, base64, ciphertext, id, notes, patient, runtime,
        ssn, whole,
    },
    passes::pass_over,
    postgres_fixture::{
        PARTITIONED, PostgresFixture, census, census_of, old, patients, read_parts,
    },
    postgres_rights::Role,
};

/// Waits until a session of ours waits for a lock.
pub async fn until_we_wait(connection: &mut PgConnection) {
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'rekey' AND wait_event_type = 'Lock')";
    // In a transaction, what was seen of other sessions once is shown again until it is cleared.
    let anew = "SELECT pg_stat_clear_snapshot()";
    sqlx::query(anew).execute(&mut *connection).await.unwrap();
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&mut *connection)
        .await
        .unwrap()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
        sqlx::query(anew).execute(&mut *connection).await.unwrap();
    }
}

/// What commits between a snapshot and a lock looks empty in the snapshot.
#[test]
fn a_table_that_is_written_anew_while_a_census_waits_is_not_counted_as_empty() {
    runtime().block_on(async {
        for rewrite in [
            "ALTER TABLE patients ALTER name TYPE varchar(200)",
            "ALTER TABLE patients ADD COLUMN token uuid DEFAULT gen_random_uuid()",
            "ALTER TABLE patients SET UNLOGGED",
            "CREATE TABLE copy AS TABLE patients; DROP TABLE patients; \
             ALTER TABLE copy RENAME TO patients",
            "ALTER TABLE patients ADD ssn2 bytea; UPDATE patients SET ssn2 = ssn; \
             ALTER TABLE patients DROP ssn; ALTER TABLE patients RENAME ssn2 TO ssn",
            "CREATE TABLE copy (LIKE patients); INSERT INTO copy TABLE patients; \
             TRUNCATE patients; INSERT INTO patients TABLE copy",
        ] {
            let (fixture, ..) = patients(50).await;
            let mut look = PgConnection::connect(&fixture.database.url())
                .await
                .unwrap();
            let mut altering = fixture.application.begin().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(rewrite))
                .execute(&mut *altering)
                .await
                .unwrap();
            let source = fixture.source().clone();
            let counting = tokio::spawn(async move {
                let columns = [ssn().to_count()];
                let mut counted = source.census("patients", &columns, None).await;
                // A census that gives way is taken again.
                while counted.as_ref().is_err_and(SourceError::is_retryable) {
                    counted = source.census("patients", &columns, None).await;
                }
                counted.map(|columns| columns[0].iter().map(Counted::values).collect::<Vec<_>>())
            });
            until_we_wait(&mut look).await;
            altering.commit().await.unwrap();
            let counted = counting.await.unwrap();
            assert_eq!(counted, Ok(vec![(Found::Key(OLD), 50)]), "{rewrite}");
        }
    });
}

/// PostgreSQL calls what stands in an index when it plans any query of the table.
#[test]
fn code_of_an_index_changes_nothing_of_a_census() {
    runtime().block_on(async {
        let fixture = PostgresFixture::with(PARTITIONED).await;
        let insert = format!(
            "INSERT INTO visits SELECT 1 + n % 2, n, {} FROM generate_series(1, 90) AS n",
            old()
        );
        fixture.execute(&insert).await;
        fixture.execute(MEDDLING).await;
        let counted = census(&**fixture.source(), "visits").await;
        assert_eq!(counted, [(Found::Key(OLD), 90)]);
        let role = Role::new(&fixture, "meddled_with").await;
        fixture
            .execute(&format!(
                "GRANT SELECT ON visits, visits_1, visits_2_low TO {}",
                role.name
            ))
            .await;
        let source = fixture.open_as(&role.name).await;
        let hidden = census_of(&*source, "visits").await;
        let error = hidden.unwrap_err().to_string();
        assert!(error.contains("BYPASSRLS"), "{error}");
        drop(source);
        role.remove(fixture).await;
    });
}

/// Its path shows other functions; its policy hides every row of the second part from who does not refuse
/// policies.
const MEDDLING: &str = "
    CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil, archive TO PUBLIC; GRANT SELECT ON archive.visits_2_high TO PUBLIC;
    CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$ SELECT NULL::regclass $$;
    CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '1000000000' $$;
    CREATE FUNCTION evil.pg_relation_size(oid) RETURNS int8 LANGUAGE sql AS $$ SELECT 0::int8 $$;
    CREATE FUNCTION public.meddle(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        PERFORM set_config('search_path', 'evil, pg_catalog, public', false),
            set_config('row_security', 'on', false), set_config('statement_timeout', '20', false);
        RETURN 1; END $$;
    CREATE INDEX ON visits_1 ((public.meddle(1)));
    ALTER TABLE visits_2_low ENABLE ROW LEVEL SECURITY;
    CREATE POLICY nothing ON visits_2_low USING (false)";

#[test]
fn rows_at_the_same_place_of_two_parts_are_two() {
    runtime().block_on(async {
        let fixture = PostgresFixture::with(PARTITIONED).await;
        let insert = format!(
            "INSERT INTO visits VALUES (1, 1, {0}), (2, 1, {0}), (2, 200, {0})",
            old()
        );
        fixture.execute(&insert).await;
        let rows = read_parts(&**fixture.source(), "visits", &["id"]).await;
        let ids: HashSet<_> = rows
            .iter()
            .map(|(query, row)| {
                let value = row.values[0].as_ref().unwrap();
                ValueId::of(&query.part, row.key, value, TextEncoding::Binary)
            })
            .collect();
        assert_eq!(ids.len(), 3, "{ids:?}");
        let mut pass = PassToShow {
            settled: vec![NEW],
            left: vec![ids],
            fence: None,
            trusts_code: false,
            known: Vec::new(),
            standing: None,
            parts: None,
        };
        let column = CensusColumn {
            name: "ssn".to_owned(),
            encoding: TextEncoding::Binary,
            by: CountedBy::Form,
        };
        let columns = std::slice::from_ref(&column);
        let counted = fixture
            .source()
            .census("visits", columns, Some(&pass))
            .await
            .unwrap();
        assert_eq!((counted[0][0].values, counted[0][0].left), (3, 3));
        let one = pass.left[0].iter().next().unwrap().clone();
        pass.left[0].remove(&one);
        pass.left[0].insert("another place".to_owned().into());
        let counted = fixture
            .source()
            .census("visits", columns, Some(&pass))
            .await
            .unwrap();
        assert!(counted[0][0].left < 3, "{counted:?}");
    });
}

#[test]
fn pages_are_in_the_order_of_places_whatever_index_answers() {
    runtime().block_on(async {
        let fixture = PostgresFixture::new().await;
        let wide: Vec<_> = (1..=30)
            .map(|id| Patient {
                notes: Some(base64(OLD, id as u64)),
                ssn: Some(ciphertext(OLD, id as u64, 200_000)),
                ..patient(id, OLD)
            })
            .collect();
        fixture.insert(&wide).await;
        fixture
            .execute(
                "INSERT INTO patients (id, name, updated_at) \
                 SELECT n, 'nobody', 0 FROM generate_series(1000, 6000) AS n; \
                 CREATE INDEX ON patients (id DESC) WHERE ssn IS NOT NULL; \
                 CREATE INDEX ON patients (id DESC) WHERE notes IS NOT NULL; ANALYZE patients",
            )
            .await;
        for column in [ssn(), notes()] {
            let query = whole(fixture.source(), vec![column]).await;
            let (mut ids, mut after) = (Vec::new(), None);
            loop {
                let page = fixture.source().read(&query, after, 1_000).await.unwrap();
                ids.extend(page.rows.iter().map(id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(ids, (1..=30).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_census_behind_a_mark_waits_for_open_and_prepared_transactions_and_names_them() {
    runtime().block_on(async {
        let server = PrivatePostgres::start().unwrap();
        let fixture = PostgresFixture::at(&server.url()).await;
        fixture.insert(&[patient(1, NEW)]).await;
        let mut pass = pass_over(fixture.source()).await;
        let columns = [ssn().to_count(), notes().to_count()];
        let mut open = PgConnection::connect(&fixture.database.url())
            .await
            .unwrap();
        let pid: i32 = sqlx::query("SELECT pg_backend_pid()")
            .fetch_one(&mut open)
            .await
            .unwrap()
            .get(0);
        sqlx::query("BEGIN").execute(&mut open).await.unwrap();
        sqlx::raw_sql("INSERT INTO patients VALUES (2, 'x', NULL, NULL, 7)")
            .execute(&mut open)
            .await
            .unwrap();
        pass.fence = Some(fixture.source().fence().await.unwrap());
        let census = async || {
            fixture
                .source()
                .census("patients", &columns, Some(&pass))
                .await
        };
        let Err(SourceError::OpenTransactions { who, .. }) = census().await else {
            panic!("it counted")
        };
        assert!(
            who.contains(&format!("process {pid} of \"postgres\"")),
            "{who}"
        );

        sqlx::query("PREPARE TRANSACTION 'transfer 7'")
            .execute(&mut open)
            .await
            .unwrap();
        let Err(SourceError::OpenTransactions { who, .. }) = census().await else {
            panic!("it counted")
        };
        assert!(who.contains("prepared transaction \"transfer 7\""), "{who}");
        // What begins later bars nothing.
        let mut later = PgConnection::connect(&fixture.database.url())
            .await
            .unwrap();
        sqlx::query("BEGIN").execute(&mut later).await.unwrap();
        sqlx::raw_sql("INSERT INTO patients VALUES (3, 'x', NULL, NULL, 7)")
            .execute(&mut later)
            .await
            .unwrap();
        sqlx::query("COMMIT PREPARED 'transfer 7'")
            .execute(&mut open)
            .await
            .unwrap();
        census().await.unwrap();
        pass.fence = Some("4000000000".to_owned());
        let lost = fixture
            .source()
            .census("patients", &columns, Some(&pass))
            .await;
        assert!(
            matches!(lost, Err(SourceError::FenceLost { .. })),
            "{lost:?}"
        );
    });
}
