//! Tables whose rows lie in several: partitions and inheritance, all of them or none; and hidden rows.

use rekey_domain::{Bind, BindValue};
use rekey_operations::{TableConfig, release_column};
use rekey_tests::{
    roles::{APPLICATION, OPERATOR, UP},
    support::operator,
};

use super::clinic::{Clinic, Database, Kind, column, listed, table};

/// Partitions of partitions in two schemas, one that takes what no other does, one whose columns were
/// made in another order, one that was emptied.
const VISITS: &str = r#"
    CREATE TABLE visits (ward INT NOT NULL, n INT NOT NULL, finding BYTEA, note TEXT, day DATE DEFAULT '2024-02-29',
        PRIMARY KEY (ward, n)) PARTITION BY LIST (ward);
    CREATE TABLE visits_1 PARTITION OF visits FOR VALUES IN (1);
    CREATE TABLE visits_2 PARTITION OF visits FOR VALUES IN (2) PARTITION BY RANGE (n);
    CREATE TABLE visits_2_low PARTITION OF visits_2 FOR VALUES FROM (0) TO (40) PARTITION BY HASH (n);
    CREATE TABLE visits_2_low_0 PARTITION OF visits_2_low FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE visits_2_low_1 PARTITION OF visits_2_low FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE SCHEMA "Archive";
    CREATE TABLE "Archive"."visits.2" PARTITION OF visits_2 DEFAULT;
    CREATE TABLE visits_3 (note TEXT, gone INT, day DATE DEFAULT '2024-02-29', n INT NOT NULL, finding BYTEA,
        ward INT NOT NULL);
    ALTER TABLE visits_3 DROP COLUMN gone;
    ALTER TABLE visits ATTACH PARTITION visits_3 FOR VALUES IN (3);
    CREATE TABLE visits_4 PARTITION OF visits FOR VALUES IN (4);
    CREATE TABLE visits_rest PARTITION OF visits DEFAULT;"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_partitions_and_default_ones_are_part_of_the_table() {
    let mut clinic = Clinic::on(Kind::Postgres, VISITS).await;
    let columns = vec![column("finding", Bind::Row), column("note", listed(&["n"]))];
    clinic
        .protect(vec![table("visits", "visits", columns)])
        .await;
    let ward = |n: i64| [1, 2, 3, 5][usize::try_from(n).unwrap() % 4];
    let values = |n| vec![("ward", BindValue::Integer(ward(n)))];
    clinic.fill("visits", 1..=120, values).await;
    let parts = "SELECT DISTINCT tableoid::regclass::text FROM visits ORDER BY 1";
    assert_eq!(clinic.texts(parts).await.len(), 6);
    clinic.rotates().await;
}

/// A child has no primary key of its own and columns that its parent has not; it inherits from two.
const PEOPLE: &str = r#"
    CREATE TABLE people (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA, note TEXT);
    CREATE TABLE places (room INT DEFAULT 7);
    CREATE TABLE patients (ward INT DEFAULT 3, diagnosis BYTEA) INHERITS (people, places);
    CREATE SCHEMA "Old"; CREATE TABLE "Old"."Patients" (since DATE DEFAULT '2001-01-01') INHERITS (patients);"#;

fn people() -> TableConfig {
    let columns = vec![column("ssn", Bind::Row), column("note", Bind::Column)];
    table("people", "people", columns)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_tables_that_inherit_are_rows_of_the_table() {
    let mut clinic = Clinic::on(Kind::Postgres, PEOPLE).await;
    clinic.protect(vec![people()]).await;
    for (first, relation) in [
        (1, "people"),
        (100, "patients"),
        (200, "\"Old\".\"Patients\""),
    ] {
        let values = |n: i64| vec![("id", n.into())];
        let rows = first..first + 30;
        clinic.fill_part(relation, "people", rows, values).await;
    }
    let view = clinic.rotates().await;
    assert_eq!(view.rows, 90 - 12, "each seventh row has NULLs alone");
}

/// A column of the child's own is the child's; one of the parent's is declared at the parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_not_declared_beside_the_table_that_it_is_part_of() {
    let mut clinic = Clinic::on(Kind::Postgres, &format!("{PEOPLE}{VISITS}")).await;
    let own = |name| table("patients", "patients", vec![column(name, Bind::Column)]);
    let said = clinic.refusal(vec![people(), own("ssn")]).await;
    for part in [
        "column clinic.patients.ssn",
        "clinic.people.ssn",
        "declare it once",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let visits = |name, relation| table(name, relation, vec![column("finding", Bind::Row)]);
    let said = clinic
        .refusal(vec![visits("one", "visits_2"), visits("all", "visits")])
        .await;
    assert!(said.contains("clinic.one.finding"), "{said}");
    clinic
        .protect(vec![visits("one", "visits_1"), visits("two", "visits_2")])
        .await;
    clinic.protect(vec![people(), own("diagnosis")]).await;
    let values = |n: i64| vec![("id", n.into())];
    clinic.fill("people", 1..=40, values).await;
    clinic.rotates().await;
}

/// Named as it is, in an expression, and where partitions are partitioned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_decides_in_which_partition_a_row_lies_is_refused_with_advice() {
    let sql = "
        CREATE TABLE visits (n INT, finding BYTEA, note TEXT, \"No.te\" TEXT, ssn BYTEA) PARTITION BY HASH (finding);
        CREATE TABLE visits_0 (note TEXT, n INT, finding BYTEA, ssn BYTEA, \"No.te\" TEXT)
            PARTITION BY RANGE (n, \"No.te\", length(note));
        ALTER TABLE visits ATTACH PARTITION visits_0 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE TABLE visits_0_all PARTITION OF visits_0 DEFAULT;";
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let visits = |name| vec![table("visits", "visits", vec![column(name, Bind::Column)])];
    for name in ["finding", "note", "No.te"] {
        let said = clinic.refusal(visits(name)).await;
        let place = format!("column clinic.visits.{name}:");
        for part in [
            &*place,
            "in which partition",
            "partition the table by another column",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
    clinic.protect(visits("ssn")).await;
    clinic.fill("visits", 1..=20, |_| vec![]).await;
    assert_eq!(clinic.rotates().await.rows, 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_rows_on_another_server_is_refused_with_advice() {
    let far = "CREATE FOREIGN TABLE visits_9 PARTITION OF visits FOR VALUES IN (9) SERVER far;
        CREATE FOREIGN TABLE aliens () INHERITS (people) SERVER far;";
    // A partition by another server's rows bears no unique index.
    let visits = VISITS.replace(",\n        PRIMARY KEY (ward, n)", "");
    let sql = format!("{visits}{PEOPLE}");
    let mut clinic = Clinic::on(Kind::Postgres, &sql).await;
    let server = "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; \
        GRANT USAGE ON FOREIGN SERVER far TO PUBLIC";
    clinic.administer(server).await;
    clinic.execute(far).await;
    let visits = table("visits", "visits", vec![column("finding", Bind::Column)]);
    for (wanted, part) in [(visits, "visits_9"), (people(), "aliens")] {
        let name = wanted.name.clone();
        let said = clinic.refusal(vec![wanted]).await;
        for part in [
            &*name,
            part,
            "foreign table",
            "declare it in the source that it lies in",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

/// Whether a policy hides rows from others, or with FORCE from the owner itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_hides_rows_from_us_is_refused_with_the_remedy() {
    let sql = "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA); \
        ALTER TABLE patients ENABLE ROW LEVEL SECURITY; CREATE POLICY partly ON patients USING (n > 3);";
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let patients = || {
        let columns = vec![column("ssn", Bind::Row)];
        vec![table("patients", "patients", columns)]
    };
    let bypass = |clinic: &Clinic, role| match &clinic.database {
        Database::Postgres(database, _) => {
            format!("ALTER ROLE {} BYPASSRLS", database.roles().name(role))
        }
        Database::Sqlite(..) => unreachable!("it is on PostgreSQL"),
    };
    let refused = async |clinic: &mut Clinic, role| {
        clinic.url = clinic.database.url_as(role);
        let said = clinic.refusal(patients()).await;
        for part in ["patients", &bypass(clinic, role)] {
            assert!(said.contains(part), "{said}");
        }
    };
    refused(&mut clinic, OPERATOR).await;
    // An owner sees all rows, but by its own wish.
    clinic.url = clinic.database.url_as(APPLICATION);
    clinic.try_protect(patients()).await.unwrap();
    clinic
        .execute("ALTER TABLE patients FORCE ROW LEVEL SECURITY")
        .await;
    refused(&mut clinic, APPLICATION).await;
    for role in [OPERATOR, UP, APPLICATION] {
        clinic.administer(&bypass(&clinic, role)).await;
    }
    clinic.url = clinic.database.url_as(OPERATOR);
    clinic.protect(patients()).await;
    clinic.fill("patients", 1..=10, |_| vec![]).await;
    assert_eq!(clinic.rotates().await.rows, 9);
}

/// A part that was detached, and a table that inherited the column and keeps it, hold their values still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_gone_from_the_parent_alone_is_not_gone() {
    let gone = [
        (PEOPLE, people as fn() -> TableConfig, "ALTER TABLE ONLY people DROP COLUMN ssn", "clinic.people.ssn", "\"patients\".ssn"),
        (
            "CREATE TABLE people (n INT, id INT PRIMARY KEY, ssn BYTEA, note TEXT) PARTITION BY LIST (id);
             CREATE TABLE patients PARTITION OF people DEFAULT;",
            people,
            "ALTER TABLE people DETACH PARTITION patients; DROP TABLE people",
            "clinic.people.ssn",
            "\"patients\".ssn",
        ),
    ];
    for (schema, tables, drop, name, left) in gone {
        let mut clinic = Clinic::on(Kind::Postgres, schema).await;
        clinic.protect(vec![tables()]).await;
        let values = |n: i64| vec![("id", n.into())];
        clinic.fill_part("patients", "people", 1..20, values).await;
        clinic.execute(drop).await;
        let (name, desired) = (name.parse().unwrap(), clinic.desired());
        let released = release_column(&clinic.services, &desired, &name, true, &operator()).await;
        let said = released.unwrap_err().to_string();
        assert!(
            said.contains(left) && said.contains("ciphertext of ours"),
            "{said}"
        );
    }
}
