//! Looking first: plans and checks that change nothing, and columns that are released.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use rekey_domain::{Need, QuarantineReason, RotationState};
use rekey_envelope::decode_base64;
use rekey_operations::{
    ColumnOpening, Opening, OperationError, check_columns, column_views, pause_rotation,
    release_column, rotation_plan,
};
use rekey_sources::Measure;
use rekey_tests::support::{Deployment, Engine, desired_of, operator, phi, short};
use serde_json::Value;
use sqlx::{AssertSqlSafe, SqlitePool};

use crate::command_line::{Answer, Desk};

/// A desk with three patients, of whom one has notes.
fn clinic() -> Desk {
    let desk = Desk::initialised();
    for id in ["1", "2", "3"] {
        let sealed = seal(&desk, "clinic.patients.ssn", id);
        let digits = hex::encode(sealed);
        sql(
            &desk,
            &format!("INSERT INTO patients VALUES ({id}, 'u{id}', x'{digits}', NULL)"),
        );
    }
    let answer = desk.rekey(
        &[
            "encrypt",
            "--column",
            "clinic.patients.notes",
            "--bind",
            "u1",
        ],
        b"n",
    );
    let note = answer.stdout.trim();
    sql(
        &desk,
        &format!("UPDATE patients SET notes = '{note}' WHERE id = 1"),
    );
    desk
}

fn seal(desk: &Desk, column: &str, bind: &str) -> Vec<u8> {
    let answer = desk.rekey(
        &["encrypt", "--column", column, "--bind", bind],
        b"123-45-6789",
    );
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    decode_base64(answer.stdout.trim()).unwrap()
}

fn sql(desk: &Desk, sql: &str) {
    with(&desk.file("source.db"), async |pool| {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&pool)
            .await
            .unwrap();
    });
}

fn with<T>(file: &Path, work: impl AsyncFnOnce(SqlitePool) -> T) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pool = SqlitePool::connect(&format!("sqlite://{}", file.display()))
            .await
            .unwrap();
        let done = work(pool.clone()).await;
        pool.close().await;
        done
    })
}

/// Every row of every table of a database.
fn rows(file: &Path) -> BTreeMap<String, Vec<String>> {
    with(file, async |pool| {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&pool).await.unwrap();
        let mut rows = BTreeMap::new();
        for table in tables {
            let columns = "SELECT group_concat('quote(\"' || name || '\")', ' || ') FROM pragma_table_info(?)";
            let columns: String = sqlx::query_scalar(columns)
                .bind(&table)
                .fetch_one(&pool)
                .await
                .unwrap();
            let all = format!("SELECT {columns} FROM \"{table}\" ORDER BY 1");
            let all = sqlx::query_scalar(AssertSqlSafe(all))
                .fetch_all(&pool)
                .await;
            rows.insert(table, all.unwrap());
        }
        rows
    })
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}", answer.stderr))
}

fn problems(answer: &Value) -> String {
    let findings = answer["findings"].as_array().unwrap().iter();
    let text = |finding: &Value| {
        format!(
            "{} {}: {}\n",
            finding["need"], finding["subject"], finding["problem"]
        )
    };
    findings.map(text).collect()
}

#[test]
fn looking_changes_nothing_in_the_store_the_source_or_the_audit_log() {
    let desk = clinic();
    let (store, source) = (desk.file("state/store.db"), desk.file("source.db"));
    let before = (rows(&store), fs::read(&source).unwrap());
    assert!(before.0["audit_entry"].len() > 1);
    for arguments in [
        &["rotate", "phi", "--plan"][..],
        &["rotate", "phi", "--plan", "--count"],
        &["rotate", "audit", "--plan"],
        &["--output", "json", "rotate", "phi", "--plan"],
        &["columns", "list"],
        &["columns", "check"],
        &["columns", "check", "--count", "clinic.patients.ssn"],
    ] {
        let answer = desk.rekey(arguments, b"");
        assert_eq!(
            answer.code, 0,
            "{arguments:?}: {}{}",
            answer.stdout, answer.stderr
        );
    }
    // A refusal changes nothing either.
    assert_eq!(
        desk.rekey(&["columns", "release", "clinic.patients.ssn"], b"")
            .code,
        4
    );
    let after = (rows(&store), fs::read(&source).unwrap());
    assert_eq!(before.0, after.0);
    assert!(before.1 == after.1, "the source's file");
}

#[test]
fn a_plan_says_what_would_be_moved_and_what_it_does_not_know() {
    let desk = clinic();
    let plan = json(&desk.rekey(&["--output", "json", "rotate", "phi", "--plan"], b""));
    assert_eq!(plan["schema"], "rekey.plan/v1");
    assert_eq!(
        (&plan["target"], &plan["values"]),
        (&"phi/2".into(), &4.into())
    );
    let table = &plan["tables"][0];
    assert_eq!(
        (&table["rows"], &table["found"]),
        (&3.into(), &"counted".into())
    );
    let columns: Vec<_> = table["columns"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&columns[1]["column"], &columns[1]["values"]),
        (&"clinic.patients.ssn".into(), &3.into())
    );
    assert_eq!(columns[0]["values"], 1);
    assert!(plan["wal_bytes"].as_u64().unwrap() > 0);
    assert_eq!(plan["bloat_bytes"], 0);
    assert_eq!(
        (&plan["time"]["seconds"], &plan["time"]["values_per_second"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(plan["kms"]["generate"], 1);
    assert_eq!(plan["kms"]["decrypt_each_process"], 2);
    assert_eq!(plan["findings"], Value::Array(Vec::new()));
    let people = desk.rekey(&["rotate", "phi", "--plan"], b"").stdout;
    for said in [
        "clinic.patients.ssn",
        "not measured yet",
        "nothing stands in the way",
    ] {
        assert!(people.contains(said), "{said}: {people}");
    }
    assert_eq!(desk.rekey(&["rotate", "ghost", "--plan"], b"").code, 2);
    assert_eq!(desk.rekey(&["rotate", "phi", "--count"], b"").code, 2);
}

/// Blank values are not moved, and only who reads them knows which these are.
#[test]
fn a_plan_that_did_not_count_says_that_it_estimates() {
    let desk = clinic();
    let blanks = "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
        INSERT INTO patients SELECT i, 'u' || i, x'', NULL FROM n";
    sql(&desk, blanks);
    let estimated = desk.rekey(&["rotate", "phi", "--plan"], b"").stdout;
    let said = "value(s), blank ones among them (--count reads every row) to move";
    assert!(
        estimated.contains("an estimated ") && estimated.contains(said),
        "{estimated}"
    );
    let counted = desk
        .rekey(&["rotate", "phi", "--plan", "--count"], b"")
        .stdout;
    assert!(counted.contains("\n4 value(s) to move"), "{counted}");
}

#[test]
fn a_plan_names_what_a_person_has_to_mend_first() {
    let desk = clinic();
    sql(
        &desk,
        "CREATE TRIGGER touch AFTER UPDATE ON patients BEGIN SELECT 1; END; \
         CREATE INDEX by_ssn ON patients (ssn)",
    );
    let answer = desk.rekey(&["--output", "json", "rotate", "phi", "--plan"], b"");
    let plan = json(&answer);
    assert_eq!(answer.code, 3);
    assert!(problems(&plan).contains("touch"), "{plan}");
    let table = &plan["tables"][0];
    assert_eq!(table["update_triggers"][0], "touch");
    assert_eq!(table["columns"][1]["indexes"][0], "by_ssn");
    fs::remove_file(desk.file("source.db")).unwrap();
    let answer = desk.rekey(&["--output", "json", "rotate", "phi", "--plan"], b"");
    let plan = json(&answer);
    assert_eq!((answer.code, &plan["complete"]), (3, &false.into()));
    assert!(problems(&plan).contains("out of reach"), "{plan}");
}

/// Copies under other names, as bytes and as base64; a stranger's ciphertext; plaintext.
#[test]
fn a_check_finds_what_is_astray_unknown_or_gone() {
    let desk = clinic();
    let clean = desk.rekey(&["columns", "check"], b"");
    assert_eq!(clean.code, 0, "{}", clean.stdout);
    sql(
        &desk,
        "CREATE TABLE \"Old Patients\" (note TEXT, raw BLOB, plain TEXT); \
         INSERT INTO \"Old Patients\" SELECT notes, ssn, 'plain' FROM patients; \
         CREATE TABLE papers AS SELECT json_object('note', notes) AS doc, '\\x' || lower(hex(ssn)) AS digits FROM patients; \
         INSERT INTO patients VALUES (4, 'u4', x'01ffffffff000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000', 'plaintext')",
    );
    let answer = desk.rekey(&["--output", "json", "columns", "check"], b"");
    let check = json(&answer);
    let found = problems(&check);
    assert_eq!(
        (answer.code, &check["schema"]),
        (3, &"rekey.columns/v1".into()),
        "{found}"
    );
    for said in [
        "column note of Old Patients in source clinic\": \"holds ciphertext of ours as base64",
        "column raw of Old Patients in source clinic\": \"holds ciphertext of ours as bytes",
        "3 under phi/1",
        "column doc of papers in source clinic\": \"holds ciphertext of ours within its text, which no rotation moves: 1 under phi/1 in base64",
        "column digits of papers in source clinic\": \"holds ciphertext of ours within its text, which no rotation moves: 3 under phi/1 in hex",
        "column clinic.patients.ssn\": \"1 value(s) unknown ciphertext",
        "column clinic.patients.notes\": \"1 value(s) no ciphertext",
    ] {
        assert!(found.contains(said), "{said}: {found}");
    }
    assert!(!found.contains("plain of"), "{found}");
    // Of the columns that are named alone, nothing else is looked at.
    let one = desk.rekey(
        &[
            "--output",
            "json",
            "columns",
            "check",
            "--count",
            "clinic.patients.ssn",
        ],
        b"",
    );
    let one = json(&one);
    let findings = one["findings"].as_array().unwrap();
    assert_eq!(
        (findings.len(), &one["values"]),
        (1, &"counted".into()),
        "{one}"
    );
    sql(
        &desk,
        "DROP TABLE \"Old Patients\"; DROP TABLE papers; DELETE FROM patients WHERE id = 4; ALTER TABLE patients RENAME ssn TO social",
    );
    let gone = desk.rekey(&["--output", "json", "columns", "check"], b"");
    assert!(problems(&json(&gone)).contains("has no such column; it has id, uuid, social, notes"));
    let plan = desk.rekey(&["rotate", "phi", "--plan"], b"");
    assert_eq!(plan.code, 3);
    assert_eq!(
        desk.rekey(&["columns", "check", "clinic.patients.dob"], b"")
            .code,
        2
    );
}

/// Rows that were renumbered, a value that was cut off, two that were copied: their first bytes are as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_do_not_open_where_they_stand_are_named_and_not_planned() {
    let clinic = Deployment::of(60).await;
    let desired = desired_of(&clinic);
    let look = async |how| {
        let check = check_columns(&clinic.services, &desired, &[], how, &operator()).await;
        let plan = rotation_plan(&clinic.services, &desired, &phi(), how, &operator()).await;
        (check.unwrap(), plan.unwrap())
    };
    for how in [Measure::Estimate, Measure::Count] {
        let (check, plan) = look(how).await;
        assert_eq!((check.findings, plan.findings), (Vec::new(), Vec::new()));
        assert_eq!(plan.values, clinic.values());
        let ssn = opening_of(&check.opened, "clinic.patients.ssn");
        assert_eq!((ssn.tried, ssn.opened, ssn.all), (60, 60, true));
    }
    clinic
        .in_source("UPDATE patients SET id = id + 100000 WHERE id > 50")
        .await;
    clinic
        .in_source("UPDATE patients SET ssn = substr(ssn, 1, length(ssn) - 1) WHERE id = 3")
        .await;
    clinic
        .in_source(
            "UPDATE patients SET ssn = (SELECT ssn FROM patients WHERE id = 5) WHERE id IN (7, 8)",
        )
        .await;
    for how in [Measure::Estimate, Measure::Count] {
        let (check, plan) = look(how).await;
        let ssn = opening_of(&check.opened, "clinic.patients.ssn");
        assert_eq!((ssn.tried, ssn.opened), (60, 47), "{ssn:?}");
        assert_eq!(ssn.not_for(QuarantineReason::Unopened), 13);
        for findings in [&check.findings, &plan.findings] {
            let mut of_column = findings.iter();
            let of_column = of_column.find(|one| one.subject == "column clinic.patients.ssn");
            let problem = &of_column.unwrap().problem;
            assert!(problem.contains("13 of 60 value(s)"), "{problem}");
        }
        let mut columns = plan.tables.iter().flat_map(|table| &table.columns);
        let ssn = columns.find(|column| column.column == "clinic.patients.ssn");
        assert_eq!(ssn.unwrap().values, 47);
    }
}

fn opening_of(opened: &[ColumnOpening], name: &str) -> Opening {
    let mut opened = opened.iter();
    let found = opened.find(|one| one.column.to_string() == name);
    found.unwrap().opening.clone()
}

#[test]
fn without_the_master_key_a_check_and_a_plan_say_that_nothing_was_opened() {
    let desk = clinic();
    let opened = desk.rekey(&["columns", "check"], b"").stdout;
    assert!(
        opened.contains("OPENED") && opened.contains("clinic.patients.ssn"),
        "{opened}"
    );
    fs::rename(desk.file("state/master.key"), desk.file("away.key")).unwrap();
    for arguments in [
        &["--output", "json", "columns", "check"][..],
        &["--output", "json", "rotate", "phi", "--plan"],
    ] {
        let answer = desk.rekey(arguments, b"");
        let found = problems(&json(&answer));
        assert_eq!(answer.code, 3, "{}{}", answer.stdout, answer.stderr);
        assert!(found.contains("no value was tried to open: "), "{found}");
        assert!(found.contains("master key"), "{found}");
    }
}

/// Where a type belongs stands no error.
#[test]
fn a_table_that_is_damaged_is_said_apart_from_columns_that_could_not_be_looked_at() {
    let desk = clinic();
    sql(
        &desk,
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, at DATE, body JSON); \
         INSERT INTO visits WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
         SELECT i, i, 'visit number ' || i || hex(zeroblob(40)) FROM n; PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let (file, marker) = (desk.file("source.db"), b"visit number 250");
    let mut bytes = fs::read(&file).unwrap();
    let mut windows = bytes.windows(marker.len());
    let page = windows.position(|window| window == marker).unwrap() / 4096 * 4096;
    bytes[page..page + 100].fill(0xff);
    fs::write(&file, bytes).unwrap();
    let answer = desk.rekey(&["--output", "json", "columns", "check", "--count"], b"");
    let found = problems(&json(&answer));
    for line in found.lines() {
        let lists = line.contains("were not looked at");
        assert!(!(lists && line.contains("visits")), "{found}");
    }
    assert!(found.contains("table visits in source clinic"), "{found}");
}

#[test]
fn a_column_is_released_once_nothing_in_it_is_ciphertext() {
    let desk = clinic();
    let release = |more: &[&str]| {
        desk.rekey(
            &[&["columns", "release", "clinic.patients.ssn"], more].concat(),
            b"",
        )
    };
    let refused = release(&[]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("3 value(s) of ciphertext of ours"),
        "{}",
        refused.stderr
    );
    sql(
        &desk,
        "UPDATE patients SET ssn = x'01ffffffff000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'",
    );
    let unknown = release(&[]);
    assert_eq!(unknown.code, 4);
    assert!(
        unknown.stderr.contains("3 of unknown ciphertext"),
        "{}",
        unknown.stderr
    );
    assert_eq!(release(&["--gone"]).code, 4, "it is there");
    sql(
        &desk,
        "UPDATE patients SET ssn = CAST('123-45-6789' AS BLOB)",
    );
    let released = release(&[]);
    assert_eq!(released.code, 0, "{}", released.stderr);
    assert!(
        released.stderr.contains("still declares"),
        "{}",
        released.stderr
    );
    let audited = with(&desk.file("state/store.db"), async |pool| {
        let count = "SELECT count(*) FROM audit_entry WHERE action = 'column.released' AND subject = 'clinic.patients.ssn'";
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&pool)
            .await
            .unwrap()
    });
    assert_eq!(audited, 1);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
    // It is declared, so it would be protected anew; taken out, the configuration is as the store is.
    let check = desk.rekey(&["columns", "check"], b"");
    assert!(
        check.stdout.contains("not protected yet"),
        "{}",
        check.stdout
    );
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&config.replace("ssn = { keyring = \"phi\", bind = \"row\" }, ", ""));
    let applied = desk.rekey(&["apply"], b"");
    assert_eq!(applied.code, 0);
    assert!(
        applied.stdout.contains("nothing to change"),
        "{}",
        applied.stdout
    );
    assert_eq!(desk.rekey(&["columns", "check"], b"").code, 0);
    assert_eq!(release(&[]).code, 2, "no such column any more");
}

#[test]
fn a_column_that_was_dropped_is_released_where_a_person_says_so() {
    let desk = clinic();
    sql(&desk, "ALTER TABLE patients DROP COLUMN ssn");
    let release = ["columns", "release", "clinic.patients.ssn"];
    let refused = desk.rekey(&release, b"");
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("--gone"), "{}", refused.stderr);
    let released = desk.rekey(&[&release[..], &["--gone"]].concat(), b"");
    assert_eq!(released.code, 0, "{}", released.stderr);
    let listed = json(&desk.rekey(&["--output", "json", "columns", "list"], b""));
    assert_eq!(listed["columns"].as_array().unwrap().len(), 3, "{listed}");
}

/// What a table is called or made of keeps nobody from seeing what is in it.
#[test]
fn a_table_that_was_renamed_is_found_whatever_else_is_in_the_file() {
    let desk = clinic();
    let release = || {
        desk.rekey(
            &["columns", "release", "clinic.patients.ssn", "--gone"],
            b"",
        )
    };
    sql(
        &desk,
        "CREATE VIRTUAL TABLE f USING fts5(word, content = ''); ALTER TABLE patients RENAME TO f_content; \
         CREATE TABLE codes (id TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID",
    );
    let refused = release();
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("f_content.ssn"),
        "{}",
        refused.stderr
    );
    let check = desk.rekey(&["columns", "check"], b"");
    assert!(
        check.stdout.contains("column ssn of f_content"),
        "{}",
        check.stdout
    );
    sql(
        &desk,
        "INSERT INTO codes SELECT 'a', ssn FROM f_content WHERE id = 1; DROP TABLE f; DROP TABLE IF EXISTS f_content",
    );
    let refused = release();
    assert!(refused.stderr.contains("codes.v"), "{}", refused.stderr);
    sql(&desk, "DELETE FROM codes");
    let released = release();
    assert_eq!(released.code, 0, "{}", released.stderr);
}

/// Its first pass is over, and its grace period is long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_knows_the_rate_of_the_last_rotation_and_the_rotation_that_is_there() {
    let mut policy = short();
    policy.timing.grace_period = Duration::from_secs(60 * 60);
    let clinic = Deployment::with(300, policy).await;
    let desired = desired_of(&clinic);
    let plan = async |keyring: &str| {
        let keyring = keyring.parse().unwrap();
        let plan = rotation_plan(
            &clinic.services,
            &desired,
            &keyring,
            Measure::Count,
            &operator(),
        )
        .await;
        plan.unwrap()
    };
    let before = plan("phi").await;
    assert_eq!(
        (before.values, before.time.seconds),
        (clinic.values(), None)
    );
    assert_eq!(
        (before.findings.len(), before.kms.decrypt_each_process),
        (0, 2)
    );
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let live = clinic.reaches(&phi(), RotationState::Grace).await;
    clinic.has_a_new_standby().await;
    engine.stop().await;

    let after = plan("phi").await;
    assert_eq!(after.time.rotation, Some(live.id));
    assert!(after.time.values_per_second.unwrap() > 0.0);
    assert!(after.time.seconds.is_some());
    assert_eq!(after.kms.decrypt_each_process, 3);
    assert_eq!(after.findings[0].need, Need::Note);
    assert!(
        after.findings[0].problem.contains("supersede"),
        "{:?}",
        after.findings
    );
    assert_eq!(plan("audit").await.time.rotation, None, "another source");

    pause_rotation(&clinic.services, live.id, &operator())
        .await
        .unwrap();
    let paused = plan("phi").await.findings.remove(0);
    assert_eq!(paused.need, Need::Person);
    assert!(
        paused.problem.contains("rekey rotations resume"),
        "{}",
        paused.problem
    );
}

/// While a rotation works on the column, nothing of it is forgotten, even if it is empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_column_is_released_while_a_rotation_of_its_keyring_is_live() {
    let clinic = Deployment::of(20).await;
    clinic.in_source("UPDATE visits SET finding = NULL").await;
    let desired = desired_of(&clinic);
    let release = async || {
        let name = "clinic.visits.finding".parse().unwrap();
        release_column(&clinic.services, &desired, &name, false, &operator()).await
    };
    // Nobody works: it stays as it was asked for.
    clinic
        .in_store(
            "INSERT INTO rotation (id, keyring_id, state, reason, principal, paused, resumptions, \
             generation, pass, planned, plan_table, resend_at, requested_at) \
             SELECT randomblob(16), id, 'REQUESTED', '\"request\"', 'os:ana@clinic', 0, 0, 1, 0, 0, 0, 0, \
             '2026-01-01 00:00:00+00:00' FROM keyring WHERE name = 'phi'",
        )
        .await;
    match release().await {
        Err(OperationError::Refused(why)) => assert!(why.contains("REQUESTED"), "{why}"),
        other => panic!("{other:?}"),
    }
    clinic
        .in_store("UPDATE rotation SET state = 'COMPLETED'")
        .await;
    assert_eq!(release().await.unwrap().values, Some(0));
    let left = column_views(&clinic.services, &desired, &operator())
        .await
        .unwrap();
    assert_eq!(left.len(), 4);
    let check = check_columns(
        &clinic.services,
        &desired,
        &[],
        Measure::Estimate,
        &operator(),
    )
    .await
    .unwrap();
    let declared: Vec<_> = check.findings.iter().map(|f| f.subject.as_str()).collect();
    assert_eq!(declared, ["column clinic.visits.finding"]);
}
