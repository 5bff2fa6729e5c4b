//! Rights on PostgreSQL: what is enough, and what a missing one is called.

use std::time::Duration;

use rekey_domain::{Found, Limits, Range, Triggers};
use rekey_sources::{ReadQuery, SourceError, StoredValue, TableRights, WriteOutcome, WriteTarget};

use super::{
    fixture::{
        Fixture, NEW, census_of, ciphertext, in_a_minute, notes, read_all, ssn, swap, target,
        write_to,
    },
    postgres_fixture::{PostgresFixture, moves, patients},
};

/// A role of the test's own, removed with it.
pub struct Role {
    pub name: String,
}

impl Role {
    pub async fn new(fixture: &PostgresFixture, name: &str) -> Self {
        let name = format!("{name}_{}", fixture.database.name());
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'");
        fixture.execute(&create).await;
        Self { name }
    }

    pub async fn remove(self, fixture: PostgresFixture) {
        let own = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        fixture.execute(&own).await;
    }
}

#[tokio::test]
async fn the_lag_of_standbys_takes_a_right_and_dead_tuples_take_none() {
    let (fixture, _, _) = patients(40).await;
    let role = Role::new(&fixture, "load").await;
    let source = fixture.open_as(&role.name).await;
    let dead = Limits {
        max_dead_tuples: Some(1),
        ..Limits::default()
    };
    fixture.execute("UPDATE patients SET ssn = ssn").await;
    let counted = async || source.load("patients", &dead).await.unwrap().dead_tuples;
    while counted().await.unwrap() < 40 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lag = Limits {
        max_replica_lag: Some(Duration::from_secs(1)),
        ..Limits::default()
    };
    let error = source.load("patients", &lag).await.unwrap_err();
    assert!(matches!(error, SourceError::NotAllowed { .. }), "{error}");
    assert!(error.to_string().contains("pg_read_all_stats"), "{error}");
    fixture
        .execute(&rekey_sources::grant_of_lag(&role.name))
        .await;
    let load = source.load("patients", &lag).await.unwrap();
    assert_eq!(load.dead_tuples, None, "nobody asked");
    role.remove(fixture).await;
}

#[tokio::test]
async fn a_role_with_the_columns_rights_and_no_others_can_do_it_all() {
    let (fixture, _, _) = patients(40).await;
    let role = Role::new(&fixture, "exact").await;
    let grant = format!(
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {0}; \
         GRANT SELECT (ctid, id, ssn), UPDATE (ssn) ON patients TO {0}",
        role.name
    );
    fixture.execute(&grant).await;
    let source = fixture.open_as(&role.name).await;
    assert_eq!(
        source.describe("patients").await.unwrap().primary_key,
        ["id"]
    );
    let mut application = fixture.application.begin().await.unwrap();
    sqlx::query("SELECT FROM patients WHERE id = 7 FOR UPDATE")
        .execute(&mut *application)
        .await
        .unwrap();
    let (query, updates) = moves(&source).await;
    let written = write_to(&source, &target(&query), &updates).await;
    let skipped = written
        .iter()
        .filter(|outcome| **outcome == WriteOutcome::Skipped);
    assert_eq!(skipped.count(), 1);
    application.rollback().await.unwrap();
    let (query, updates) = moves(&source).await;
    write_to(&source, &target(&query), &updates).await;
    let census = census_of(&source, "patients", &ssn()).await.unwrap();
    assert_eq!(census, [(Found::Key(NEW), 40)]);

    let error = census_of(&source, "patients", &notes()).await.unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(error, SourceError::NotAllowed { .. }) && !error.is_retryable(),
        "{message}"
    );
    assert!(
        message.contains("GRANT SELECT") && message.contains("patients"),
        "{message}"
    );
    drop(source);
    role.remove(fixture).await;
}

/// What `grants` says is enough for every partition, and the parent needs nothing.
#[tokio::test]
async fn the_rights_that_are_listed_are_enough() {
    let fixture = PostgresFixture::with(
        r#"CREATE TABLE "All" (id INT, place INT, "S" BYTEA, note TEXT, PRIMARY KEY (id, place))
            PARTITION BY LIST (place);
        CREATE TABLE "One" PARTITION OF "All" FOR VALUES IN (1);
        CREATE SCHEMA far; CREATE TABLE far.two PARTITION OF "All" FOR VALUES IN (2);
        INSERT INTO "All" VALUES (1, 1, '\x01', 'secret'), (1, 2, '\x01', 'secret')"#,
    )
    .await;
    let role = Role::new(&fixture, "listed").await;
    let parts = fixture.source().part_names(r#""All""#).await.unwrap();
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    for grant in rekey_sources::grants(
        &role.name,
        &parts,
        &names(&["id", "place", "S"]),
        &names(&["S"]),
    ) {
        fixture.execute(&grant).await;
    }
    let source = fixture.open_as(&role.name).await;
    source.describe(r#""All""#).await.unwrap();
    let mut column = ssn();
    column.name = "S".to_owned();
    for part in source.parts(r#""All""#).await.unwrap() {
        let query = ReadQuery {
            relation: r#""All""#.to_owned(),
            range: Range { first: 0, last: 0 },
            part: part.id,
            columns: vec![column.clone()],
            bind_columns: names(&["id"]),
            trusts_code: false,
        };
        let rows = read_all(&source, &query).await;
        let update = swap(
            &rows[0],
            &column,
            StoredValue::Bytes(ciphertext(NEW, 1, 60)),
        );
        let written = write_to(&source, &target(&query), &[update]).await;
        assert_eq!(written, [WriteOutcome::Written]);
    }
    let census = census_of(&source, r#""All""#, &column).await.unwrap();
    assert_eq!(census, [(Found::Key(NEW), 2)]);
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn a_missing_right_to_write_or_to_suppress_triggers_is_named() {
    let (fixture, query, updates) = patients(1).await;
    let role = Role::new(&fixture, "reader").await;
    let grant = format!("GRANT SELECT ON patients TO {}", role.name);
    fixture.execute(&grant).await;
    let source = fixture.open_as(&role.name).await;
    for (triggers, right) in [
        (Triggers::Fire, "UPDATE ("),
        (
            Triggers::Suppress,
            "GRANT SET ON PARAMETER session_replication_role",
        ),
    ] {
        let target = WriteTarget {
            triggers,
            ..target(&query)
        };
        let error = source
            .write(&target, &updates, in_a_minute(&source).await)
            .await;
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains(right), "{error}");
    }
    let grant = format!(
        "GRANT UPDATE (ssn) ON patients TO {0}; GRANT SET ON PARAMETER session_replication_role TO {0}",
        role.name
    );
    fixture.execute(&grant).await;
    let target = WriteTarget {
        triggers: Triggers::Suppress,
        ..target(&query)
    };
    assert_eq!(
        write_to(&source, &target, &updates).await,
        [WriteOutcome::Written]
    );
    drop(source);
    let revoke = format!(
        "REVOKE SET ON PARAMETER session_replication_role FROM {}",
        role.name
    );
    fixture.execute(&revoke).await;
    role.remove(fixture).await;
}

#[tokio::test]
async fn rows_hidden_by_row_level_security_fail_loudly() {
    let (fixture, query, updates) = patients(3).await;
    let role = Role::new(&fixture, "half_blind").await;
    let hide = format!(
        "GRANT SELECT, UPDATE ON patients TO {0}; ALTER TABLE patients ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY half ON patients USING (id > 1)",
        role.name
    );
    fixture.execute(&hide).await;
    let source = fixture.open_as(&role.name).await;
    let deadline = in_a_minute(&source).await;
    let census = census_of(&source, "patients", &ssn()).await;
    for error in [
        source.describe("patients").await.map(drop),
        source.read(&query, None, 1 << 20).await.map(drop),
        source
            .write(&target(&query), &updates, deadline)
            .await
            .map(drop),
        census.map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, SourceError::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains("BYPASSRLS"), "{error}");
    }
    fixture
        .execute(&format!("ALTER ROLE {} BYPASSRLS", role.name))
        .await;
    let source = fixture.open_as(&role.name).await;
    assert_eq!(moves(&source).await.1.len(), 3);
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_found_before_it_is_needed_and_said_as_sql() {
    let (fixture, _, _) = patients(1).await;
    let role = Role::new(&fixture, "checked").await;
    let source = fixture.open_as(&role.name).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let needed = TableRights {
        relation: "patients".to_owned(),
        read: names(&["id", "ssn"]),
        written: names(&["ssn"]),
        triggers: Triggers::Fire,
    };
    let counts = TableRights {
        read: names(&["ssn"]),
        written: Vec::new(),
        ..needed.clone()
    };
    let lacks = source.check_rights(&needed).await.unwrap_err();
    assert!(matches!(lacks, SourceError::NotAllowed { .. }), "{lacks}");
    let said = lacks.to_string();
    let (_, sql) = said.split_once("have its owner run ").unwrap();
    fixture
        .execute(&format!(
            "GRANT SELECT (ctid, ssn) ON patients TO {}",
            role.name
        ))
        .await;
    source.check_rights(&counts).await.unwrap();
    source.check_rights(&needed).await.unwrap_err();
    // What it says is enough.
    fixture.execute(sql).await;
    source.check_rights(&needed).await.unwrap();
    let suppresses = TableRights {
        triggers: Triggers::Suppress,
        ..needed
    };
    let lacks = source.check_rights(&suppresses).await.unwrap_err();
    assert!(
        lacks.to_string().contains("session_replication_role"),
        "{lacks}"
    );
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn missing_rights_are_the_grants_that_mend_them() {
    let fixture = PostgresFixture::with(
        r#"CREATE SCHEMA "Far"; CREATE TABLE "Far"."All" (id INT, "S" BYTEA) PARTITION BY LIST (id);
        CREATE TABLE "Far".one PARTITION OF "Far"."All" FOR VALUES IN (1);
        CREATE TABLE two PARTITION OF "Far"."All" FOR VALUES IN (2)"#,
    )
    .await;
    let role = Role::new(&fixture, "poor").await;
    let on_two = format!("GRANT SELECT, UPDATE (\"S\") ON two TO {}", role.name);
    fixture.execute(&on_two).await;
    let source = fixture.open_as(&role.name).await;
    let needed = TableRights {
        relation: r#""Far"."All""#.to_owned(),
        read: vec!["id".to_owned(), "S".to_owned()],
        written: vec!["S".to_owned()],
        triggers: Triggers::Fire,
    };
    let lacks = source.check_rights(&needed).await.unwrap_err().to_string();
    let (_, grants) = lacks.split_once("have its owner run ").unwrap();
    let name = &role.name;
    // Nothing of the partition that lacks nothing.
    let expected = [
        format!(r#"GRANT USAGE ON SCHEMA "Far" TO "{name}""#),
        format!(r#"GRANT SELECT (ctid, "S", "id"), UPDATE ("S") ON "Far"."one" TO "{name}""#),
    ];
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    assert_eq!(sorted(grants), sorted(&expected.join("; ")), "{grants}");
    fixture.execute(grants).await;
    source.check_rights(&needed).await.unwrap();
    drop(source);
    role.remove(fixture).await;
}
