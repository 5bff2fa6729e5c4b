//! Values that their database cannot read: all others are moved, and the certificate names them.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use rekey_domain::{Bind, BindValue, Found, QuarantineReason, RotationState, Triggers};
use rekey_envelope::encode_base64;
use rekey_operations::{
    ColumnConfig, Retry, census, check_columns, quarantine_views, resume_rotation,
    retry_quarantined, rotation_plan,
};
use rekey_sources::Measure;
use rekey_tests::support::{Engine, operator, until};

use sqlx::AssertSqlSafe;

use super::clinic::{Clinic, Kind, column, keyring, table};

const PATIENTS: &str = "CREATE TABLE patients (id INT PRIMARY KEY, ssn TEXT, notes TEXT);";
/// Characters that lie apart from their row, in several chunks.
const WIDE: usize = 6_000;

/// So many patients with a wide value and a short one each.
async fn clinic(kind: Kind, rows: i64) -> Clinic {
    clinic_under(kind, rows, ["phi", "phi"]).await
}

/// The same, under a keyring for each of the two.
async fn clinic_under(kind: Kind, rows: i64, [wide, short]: [&str; 2]) -> Clinic {
    let mut clinic = Clinic::on(kind, PATIENTS).await;
    clinic.policy.batch_rows = 100;
    let columns = [("ssn", wide), ("notes", short)].map(|(name, of)| ColumnConfig {
        keyring: keyring(of),
        ..column(name, Bind::Row)
    });
    let mut patients = table("patients", "patients", columns.to_vec());
    patients.on_update.triggers = Some(Triggers::Fire);
    clinic.protect(vec![patients]).await;
    for id in 1..=rows {
        insert(&clinic, id).await;
    }
    clinic
}

async fn insert(clinic: &Clinic, id: i64) {
    let wide = id.to_string().repeat(WIDE / id.to_string().len());
    let ssn = sealed(clinic, "ssn", id, &wide).await;
    let notes = sealed(clinic, "notes", id, "a note").await;
    let insert = format!("INSERT INTO patients VALUES ({id}, '{ssn}', '{notes}')");
    clinic.execute(&insert).await;
}

async fn sealed(clinic: &Clinic, column: &str, id: i64, plain: &str) -> String {
    let (client, column) = (&clinic.services.client, format!("clinic.patients.{column}"));
    let binds = [BindValue::Integer(id)];
    let sealed = client.encrypt(&column, &binds, plain.as_bytes()).await;
    encode_base64(&sealed.unwrap())
}

/// Kills what of the value of a row lies apart.
async fn kill(clinic: &Clinic, id: i64) {
    let toast = "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'public.patients'::regclass";
    let toast = &clinic.texts(toast).await[0];
    let administrator = clinic.administrator().await;
    let chunks = format!(
        "SELECT array_agg(t.ctid)::text FROM {toast} t WHERE t.chunk_id = \
         (SELECT c.chunk_id FROM {toast} c, public.patients p WHERE p.id = {id} AND c.chunk_seq = 0 \
         AND substr(c.chunk_data, 1, 60) = substr(convert_to(p.ssn, 'UTF8'), 1, 60))"
    );
    let chunks: String = sqlx::query_scalar(AssertSqlSafe(chunks))
        .fetch_one(&administrator)
        .await
        .unwrap();
    clinic
        .administer(&format!(
            "CREATE EXTENSION pg_surgery; \
             SELECT heap_force_kill('{toast}'::regclass, '{chunks}'::tid[])"
        ))
        .await;
}

/// What a trigger may change beside is looked at, and one value of it cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_read_beside_the_one_that_is_moved_stops_no_table_with_triggers() {
    let clinic = clinic_under(Kind::Postgres, 120, ["other", "phi"]).await;
    kill(&clinic, 7).await;
    let harmless = "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$; \
        CREATE TRIGGER quiet BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION quiet()";
    clinic.execute(harmless).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!((view.moved, view.quarantined), (120, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_value_that_cannot_be_read_stops_no_table() {
    let clinic = clinic(Kind::Postgres, 300).await;
    kill(&clinic, 7).await;

    let (desired, ana) = (clinic.desired(), operator());
    let checked = check_columns(&clinic.services, &desired, &[], Measure::Count, &ana);
    let checked = checked.await.unwrap();
    let says = |text: &str| {
        checked
            .findings
            .iter()
            .any(|one| one.problem.contains(text))
    };
    assert!(
        says("1 value(s) that the database fails to read"),
        "{checked:?}"
    );
    let phi = keyring("phi");
    let plan = rotation_plan(
        &clinic.services,
        &clinic.desired(),
        &phi,
        Measure::Count,
        &operator(),
    )
    .await;
    assert_eq!(plan.unwrap().values, 599, "those that can be moved");

    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let view = clinic.reaches("phi", RotationState::Completed).await;
    assert_eq!((view.moved, view.quarantined), (599, 1));
    let [left] = &quarantine_views(&clinic.services, &operator())
        .await
        .unwrap()[..]
    else {
        panic!("one value is left")
    };
    assert_eq!(left.reason, QuarantineReason::Unreadable);
    assert_eq!(left.detail.as_deref(), Some("SQLSTATE XX001"));
    assert!(left.place.ends_with(") unreadable"), "{left:?}");
    assert_eq!(left.found_key_id, None);
    let certificate = view.certificate.as_ref().unwrap();
    assert_eq!(certificate["opened"], 599);
    let reasons = &certificate["quarantine"]["by_reason"];
    assert_eq!(reasons[0]["reason"], "unreadable", "{certificate}");
    let after = certificate["census_after"].as_array().unwrap();
    let line = |under: &str| after.iter().find(|line| line["under"] == under);
    assert_eq!(line("unreadable").unwrap()["rows"], 1, "{certificate}");
    let moved = after.iter().filter(|line| line["under"] == "phi/2");
    let moved: Vec<_> = moved.map(|line| line["rows"].as_u64()).collect();
    assert_eq!(moved, [Some(299), Some(300)], "{certificate}");
    let counted = census(&clinic.services, &operator()).await.unwrap();
    let unreadable = counted.iter().filter(|row| row.found == Found::Unreadable);
    assert_eq!(unreadable.map(|row| row.rows).sum::<u64>(), 1);

    // The row is restored, and the value in quarantine is tried again.
    clinic.execute("DELETE FROM patients WHERE id = 7").await;
    insert(&clinic, 7).await;
    let again = retry_quarantined(&clinic.services, &Retry::All, &operator()).await;
    let again = again.unwrap()[0].sweep.rotation;
    let view = until("the end of the sweep", async || {
        let view = clinic.latest("phi").await?;
        (view.id == again && view.state == RotationState::Completed).then_some(view)
    })
    .await;
    engine.stop().await;
    assert_eq!(view.quarantined, 0);
    assert!(
        quarantine_views(&clinic.services, &operator())
            .await
            .unwrap()
            .is_empty()
    );
}

/// A page of a SQLite file, and what it begins with where it holds rows of a table.
const PAGE: usize = 4096;
const LEAF: u8 = 13;

fn write_page(path: &Path, number: usize, page: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    let start = u64::try_from(number * PAGE).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    file.write_all(page).unwrap();
}

/// A page of SQLite's holds many rows, and nobody knows which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_puts_a_rotation_on_hold_with_its_name() {
    let clinic = clinic(Kind::Sqlite, 60).await;
    clinic.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let path = clinic.disks.clinic("source.db");
    let whole = std::fs::read(&path).unwrap();
    let leaf = whole
        .chunks(PAGE)
        .rposition(|page| page[0] == LEAF)
        .unwrap();
    write_page(&path, leaf, &[0xff; PAGE]);
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let paused = until("the rotation to pause", async || {
        let view = clinic.latest("phi").await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = paused.paused_because.as_deref().unwrap();
    for part in ["source.db", "damaged", "integrity_check", "SQLite code 11"] {
        assert!(why.contains(part), "{why}");
    }
    write_page(&path, leaf, &whole[leaf * PAGE..][..PAGE]);
    // Nobody goes on with what they read before a commit.
    clinic
        .execute("UPDATE patients SET id = id WHERE id = 1")
        .await;
    resume_rotation(&clinic.services, paused.id, &operator())
        .await
        .unwrap();
    let view = clinic.completes("phi").await;
    engine.stop().await;
    assert_eq!(view.moved, 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_not_there_hides_no_other_of_its_table_from_a_census() {
    let clinic = clinic(Kind::Postgres, 20).await;
    clinic
        .execute("ALTER TABLE patients RENAME COLUMN notes TO n2")
        .await;
    let ana = operator();
    let tables = rekey_operations::census_by_table(&clinic.services, &ana);
    let tables = tables.await.unwrap();
    assert_eq!(tables.len(), 2, "each by itself");
    for table in tables {
        let [name] = &table.columns[..] else {
            panic!("{:?}", table.columns);
        };
        match (name.column.as_str(), table.counted) {
            ("ssn", Ok(rows)) => assert_eq!(rows[0].rows, 20),
            ("notes", Err(error)) => assert!(error.to_string().contains("notes"), "{error}"),
            (other, counted) => panic!("{other}: {counted:?}"),
        }
    }
}
