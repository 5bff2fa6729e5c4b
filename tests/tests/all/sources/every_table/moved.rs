//! A table that is elsewhere: followed where it is the same one, and never left behind with ciphertext in it.

use std::time::Duration;

use rekey_domain::{Bind, KeyringPolicy, RotationState, Timing};
use rekey_operations::{
    OperationError, TableConfig, accept_database, cancel_rotation, plan, release_column,
    resume_rotation,
};
use rekey_tests::{
    roles::OPERATOR,
    support::{Engine, open, operator, short, until, url},
};

use super::clinic::{Clinic, Database, Kind, column, table};

const PATIENTS: &str = "CREATE TABLE patients (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA);";
/// A table of the same shape, with nothing in it.
const OTHERS: &str = "CREATE TABLE others (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA);";
/// Each seventh row has no value.
const ROWS: i64 = 63;
const VALUES: u64 = 54;

fn patients(relation: &str) -> Vec<TableConfig> {
    vec![table("patients", relation, vec![column("ssn", Bind::Row)])]
}

/// A clinic whose 54 values are protected.
async fn clinic(kind: Kind) -> Clinic {
    let mut clinic = Clinic::on(kind, PATIENTS).await;
    clinic.execute(OTHERS).await;
    clinic.protect(patients("patients")).await;
    let values = |n: i64| vec![("id", n.into())];
    clinic.fill("patients", 1..=ROWS, values).await;
    clinic
}

/// Why both a plan and an apply of these tables are refused, by a safety rule.
async fn refused(clinic: &mut Clinic, tables: Vec<TableConfig>) -> String {
    let applied = clinic.try_protect(tables).await.unwrap_err();
    let planned = plan(&clinic.services, &clinic.desired(), &operator())
        .await
        .unwrap_err();
    assert!(matches!(planned, OperationError::Refused(_)), "{planned}");
    assert_eq!(planned.to_string(), applied.to_string());
    planned.to_string()
}

async fn ids(clinic: &Clinic) -> Vec<(uuid::Uuid, String)> {
    let columns = clinic.columns_of("patients").await;
    let id = |column: &rekey_store::columns::Protected| (column.id, column.spec.column_id.clone());
    columns.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_under_the_same_name_is_refused_while_the_old_one_holds_ciphertext() {
    for kind in Kind::BOTH {
        let mut clinic = clinic(kind).await;
        let said = refused(&mut clinic, patients("others")).await;
        for part in ["clinic.patients", "54 value(s)", "rekey columns release"] {
            assert!(said.contains(part), "{said}");
        }
        // Nothing has changed, and a rotation takes all of them along.
        clinic.protect(patients("patients")).await;
        let view = clinic.rotates().await;
        assert_eq!(view.moved, VALUES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_is_followed_once_the_old_one_holds_none_and_no_rotation_is_live() {
    for kind in Kind::BOTH {
        let mut clinic = clinic(kind).await;
        let before = ids(&clinic).await;
        clinic.policy = KeyringPolicy {
            timing: Timing {
                grace_period: Duration::from_secs(3_600),
                ..short().timing
            },
            ..clinic.policy.clone()
        };
        clinic.protect(patients("patients")).await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        clinic.reaches("phi", RotationState::Grace).await;
        engine.stop().await;
        clinic.execute("UPDATE patients SET ssn = NULL").await;
        let said = refused(&mut clinic, patients("others")).await;
        assert!(said.contains("is GRACE and works on it"), "{said}");

        let engine = Engine::start(&clinic.workers);
        let latest = clinic.latest("phi").await.unwrap().id;
        cancel_rotation(&clinic.services, latest, "moved", &operator())
            .await
            .unwrap();
        clinic.reaches("phi", RotationState::Cancelled).await;
        engine.stop().await;
        clinic.protect(patients("others")).await;
        assert_eq!(ids(&clinic).await, before);
        let values = |n: i64| vec![("id", n.into())];
        clinic.fill("patients", 100..=107, values).await;
        let relation = clinic.columns_of("patients").await[0]
            .table
            .relation
            .clone();
        assert!(
            ["others", "public.others"].contains(&&*relation),
            "{relation}"
        );
    }
}

/// PostgreSQL knows a table by a number of its own, whatever it is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_renamed_and_replaced_is_noticed_and_followed() {
    let mut clinic = clinic(Kind::Postgres).await;
    let before = ids(&clinic).await;
    let replace = "ALTER TABLE patients RENAME TO people; ALTER TABLE others RENAME TO patients";
    clinic.execute(replace).await;
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("public.people has 54 value(s)"), "{said}");
    for gone in [false, true] {
        let name = "clinic.patients.ssn".parse().unwrap();
        let (services, desired) = (&clinic.services, clinic.desired());
        let released = release_column(services, &desired, &name, gone, &operator()).await;
        let said = released.unwrap_err().to_string();
        assert!(said.contains("is called public.people now"), "{said}");
    }
    clinic.protect(patients("people")).await;
    assert_eq!(ids(&clinic).await, before);
    clinic.rotates().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_gone_is_refused_with_the_command_that_says_so() {
    let mut clinic = clinic(Kind::Postgres).await;
    clinic.execute("DROP TABLE patients").await;
    let said = refused(&mut clinic, patients("others")).await;
    assert!(
        said.contains("rekey columns release clinic.patients.ssn"),
        "{said}"
    );
    assert!(said.contains("--gone"), "{said}");
    clinic.try_protect(patients("others")).await.unwrap_err();
    let (name, desired) = ("clinic.patients.ssn".parse().unwrap(), clinic.desired());
    release_column(&clinic.services, &desired, &name, true, &operator())
        .await
        .unwrap();
    clinic.protect(patients("others")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_renamed_is_not_taken_for_dropped() {
    for (kind, rename, now) in [
        (
            Kind::Postgres,
            "ALTER TABLE patients RENAME ssn TO ssn_old",
            "ssn_old",
        ),
        (
            Kind::Sqlite,
            "ALTER TABLE patients RENAME COLUMN ssn TO ssn_old",
            "ssn_old",
        ),
        (
            Kind::Sqlite,
            "ALTER TABLE patients RENAME TO people",
            "people",
        ),
    ] {
        let clinic = clinic(kind).await;
        clinic.execute(rename).await;
        let (name, desired) = ("clinic.patients.ssn".parse().unwrap(), clinic.desired());
        let released = release_column(&clinic.services, &desired, &name, true, &operator()).await;
        let said = released.unwrap_err().to_string();
        assert!(said.contains(now) && said.contains("renamed"), "{said}");
    }
}

/// SQLite knows a table by its name only: a copy with the same values may be what it was, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_table_of_sqlite_is_followed_if_it_alone_holds_ciphertext_of_ours() {
    let mut clinic = clinic(Kind::Sqlite).await;
    let before = ids(&clinic).await;
    let copy = "CREATE TABLE copy AS SELECT * FROM patients; ALTER TABLE patients RENAME TO people";
    clinic.execute(copy).await;
    let said = refused(&mut clinic, patients("others")).await;
    assert!(said.contains("copy holds ciphertext of ours too"), "{said}");
    clinic.execute("DROP TABLE copy").await;
    let said = refused(&mut clinic, patients("others")).await;
    assert!(
        said.contains("people holds ciphertext of ours too"),
        "{said}"
    );
    clinic.protect(patients("PEOPLE")).await;
    assert_eq!(ids(&clinic).await, before);
    clinic.rotates().await;
}

/// A pooler, a standby that was promoted and another name of the host lead to the same database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_database_is_followed_to_another_url_and_another_database_is_refused() {
    let mut clinic = clinic(Kind::Postgres).await;
    let theirs = rekey_tests::roles::Database::create(rekey_tests::roles::APPLICATION).await;
    let run = rekey_tests::roles::run;
    run(&theirs.administrator().await, PATIENTS).await;
    let (ours, other) = (clinic.url.clone(), theirs.name().to_owned());
    let Database::Postgres(database, _) = &clinic.database else {
        unreachable!("it is on PostgreSQL");
    };
    let elsewhere = ours.replace(database.name(), &other);
    let connect =
        format!("GRANT ALL ON DATABASE {other} TO PUBLIC; GRANT ALL ON patients TO PUBLIC");
    run(&theirs.administrator().await, &connect).await;
    clinic.url = elsewhere.clone();
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("may be another database"), "{said}");
    assert!(!said.contains("only-in-tests"), "{said}");

    // Neither may a release count there.
    let urls = [("clinic".to_owned(), elsewhere.into())].into();
    let services = clinic.services.clone().with_source_urls(urls);
    let (name, desired) = ("clinic.patients.ssn".parse().unwrap(), clinic.desired());
    for gone in [false, true] {
        let released = release_column(&services, &desired, &name, gone, &operator()).await;
        let said = released.unwrap_err().to_string();
        assert!(said.contains("leads to"), "{said}");
    }

    let (from, to) = ("@127.0.0.1:", "@localhost:");
    assert!(ours.contains(from), "{ours}");
    clinic.url = ours.replace(from, to);
    let changes = clinic.try_protect(patients("patients")).await.unwrap();
    let changes: Vec<_> = changes
        .iter()
        .map(|change| change.change.as_str())
        .collect();
    assert_eq!(changes, ["url changed"]);
    clinic.rotates().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_followed_along_links_and_another_file_is_refused() {
    let mut clinic = clinic(Kind::Sqlite).await;
    let (file, elsewhere) = (
        clinic.disks.clinic("source.db"),
        clinic.disks.clinic("else.db"),
    );
    let pool = open(elsewhere.clone(), true).await;
    sqlx::raw_sql(PATIENTS).execute(&pool).await.unwrap();
    clinic.url = url(elsewhere.clone(), "rw");
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("patients has 54 value(s)"), "{said}");
    pool.close().await;

    // It was moved, and a link is left where it was.
    let moved = clinic.disks.clinic("moved.db");
    std::fs::rename(&file, &moved).unwrap();
    clinic.url = url(moved.clone(), "rw");
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("out of reach"), "{said}");
    std::os::unix::fs::symlink(&moved, &file).unwrap();
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("rekey sources accept clinic"), "{said}");
    let accepted = accept_database(&clinic.services, "clinic", &operator()).await;
    assert!(accepted.unwrap().now.ends_with("moved.db"));
    let changes = clinic.try_protect(patients("patients")).await.unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    clinic.rotates().await;
}

/// Its URL was read when it started, and leads to where the values were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_the_old_database_open_says_nothing_of_the_new_one() {
    let mut clinic = clinic(Kind::Sqlite).await;
    let old = [("clinic".to_owned(), clinic.url.clone().into())].into();
    let engine = Engine::start(&clinic.workers.clone().with_source_urls(old));
    clinic.ask("phi").await;
    clinic.reaches("phi", RotationState::Completed).await;

    let copy = clinic.disks.clinic("copy.db");
    clinic
        .execute(&format!("VACUUM INTO '{}'", copy.display()))
        .await;
    clinic.execute("DELETE FROM patients").await;
    clinic.url = url(copy.clone(), "rw");
    clinic.try_protect(patients("patients")).await.unwrap();
    clinic.ask("phi").await;
    let held = until("the hold", async || {
        let view = clinic.latest("phi").await?;
        view.paused_because
    })
    .await;
    assert!(held.contains("start the program again"), "{held}");
    engine.stop().await;

    // Started again, it reads the URL that is said now.
    let engine = Engine::start(&clinic.services);
    let id = clinic.latest("phi").await.unwrap().id;
    resume_rotation(&clinic.services, id, &operator())
        .await
        .unwrap();
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!(view.moved, 54);
}

/// What an older program applied has no number yet; nobody has to change anything for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_table_is_known_by_is_noted_by_the_next_apply() {
    let mut clinic = clinic(Kind::Postgres).await;
    let store = open(clinic.disks.state("store.db"), false).await;
    let forget = "UPDATE source SET database_id = NULL; UPDATE source_table SET oid = NULL";
    sqlx::raw_sql(forget).execute(&store).await.unwrap();
    let changes = clinic.try_protect(patients("patients")).await.unwrap();
    assert_eq!(changes, []);
    let column = clinic.columns_of("patients").await.remove(0);
    assert!(column.table.oid.is_some() && column.source.database_id.is_some());
    assert!(clinic.url.contains(OPERATOR));
}

/// As one partitions a table online: it is renamed, and attached to what takes its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_became_a_part_of_the_one_of_its_name_is_followed_with_all_its_rows() {
    let mut clinic = clinic(Kind::Postgres).await;
    clinic
        .execute(
            "BEGIN; ALTER TABLE patients RENAME TO patients_old; \
             CREATE TABLE patients (n INT NOT NULL, id INT NOT NULL, ssn BYTEA, PRIMARY KEY (id)) \
                 PARTITION BY RANGE (id); \
             ALTER TABLE patients ATTACH PARTITION patients_old FOR VALUES FROM (0) TO (1000); \
             CREATE TABLE patients_new PARTITION OF patients FOR VALUES FROM (1000) TO (2000); COMMIT",
        )
        .await;
    clinic.protect(patients("patients")).await;
    let values = |n: i64| vec![("id", n.into())];
    clinic.fill("patients", 1_001..=1_006, values).await;
    clinic.rotates().await;

    // A column of a part that is called otherwise than the table's is none of it.
    clinic
        .execute(
            "BEGIN; ALTER TABLE patients RENAME TO patients_2; \
             ALTER TABLE patients_2 RENAME ssn TO ssn_old; ALTER TABLE patients_2 ADD COLUMN ssn BYTEA; \
             CREATE TABLE patients (n INT NOT NULL, id INT NOT NULL, ssn_old BYTEA, ssn BYTEA, PRIMARY KEY (id)) \
                 PARTITION BY RANGE (id); \
             ALTER TABLE patients ATTACH PARTITION patients_2 FOR VALUES FROM (0) TO (2000); COMMIT",
        )
        .await;
    clinic.grant().await;
    let said = refused(&mut clinic, patients("patients")).await;
    assert!(said.contains("ciphertext"), "{said}");
}
