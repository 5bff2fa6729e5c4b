//! What is granted is enough; a right that is missing: readiness says it with its remedy, the work waits and goes on.

use rekey_domain::{Principal, Role, RotationState, Worker};
use rekey_operations::{Services, verify_audit};
use rekey_store::audit::{Action, Record};
use rekey_tests::{
    cluster::{Cluster, Policy},
    roles::{ALL, Database, OPERATOR, OWNER},
    support::{operator, until},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::command_line::Desk;

async fn run(database: &PgPool, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(database);
    done.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The problem that readiness tells of `need`.
fn problem(said: &str, need: &str) -> String {
    let said: Value = serde_json::from_str(said).unwrap();
    let mut needs = said["needs"].as_array().unwrap().iter();
    let found = needs.find(|one| one["name"] == need).unwrap();
    found["problem"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_taken_away_at_a_source_puts_the_rotation_on_hold_until_it_is_given_again() {
    let cluster = Cluster::of(600, Policy::default()).await;
    let workers = cluster.start_all(1);
    let [_, rotator, re_encryptor] = &workers[..] else {
        panic!("three workers")
    };
    for worker in &workers {
        worker.answers("/readyz", 200).await;
    }
    let role = cluster.role(Worker::ReEncryptor);
    let revoke = format!("REVOKE UPDATE (notes) ON patients FROM {role}");
    run(&cluster.source, revoke).await;
    let said = re_encryptor.answers("/readyz", 503).await;
    let problem = problem(&said, "source clinic");
    let (_, remedy) = problem.split_once("have its owner run ").unwrap();
    // It lacks nothing that it needs.
    rotator.answers("/readyz", 200).await;
    cluster.rotate().await;
    let paused = until("a rotation on hold", async || {
        let view = cluster.rotation().await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = paused.paused_because.unwrap();
    assert!(why.contains("patients") && why.contains("GRANT"), "{why}");
    assert_eq!(paused.state, RotationState::ReEncrypting);
    for nothing in [
        "SELECT count(*) FROM batch WHERE state = 'FAILED'",
        "SELECT count(*) FROM dead_letter",
    ] {
        assert_eq!(cluster.count(nothing).await, 0, "{nothing}");
    }
    run(&cluster.source, remedy.to_owned()).await;
    re_encryptor.answers("/readyz", 200).await;
    cluster.rekey(&["rotations", "resume", &paused.id.to_string()]);
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_taken_away_at_the_store_is_said_by_who_needs_it() {
    let cluster = Cluster::of(10, Policy::default()).await;
    let scheduler = cluster.start(Worker::Scheduler);
    let rotator = cluster.start(Worker::Rotator);
    scheduler.answers("/readyz", 200).await;
    let role = cluster.role(Worker::Scheduler);
    let right = |verb: &str, to: &str| format!("{verb} UPDATE (resend_at) ON batch {to} {role}");
    run(&cluster.store, right("REVOKE", "FROM")).await;
    let said = scheduler.answers("/readyz", 503).await;
    let problem = problem(&said, "store");
    let remedy = right("GRANT", "TO");
    assert!(problem.contains(&remedy), "{problem}");
    rotator.answers("/readyz", 200).await;
    run(&cluster.store, remedy).await;
    scheduler.answers("/readyz", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_looks_and_steers_with_no_more_rights_than_granted() {
    let cluster = Cluster::of(50, Policy::default()).await;
    let asked = cluster.rekey(&["--output", "json", "rotate", "phi"]);
    assert!(asked.contains("request"), "{asked}");
    let _rotator = cluster.start(Worker::Rotator);
    // Nobody moves anything, so it stays where a person can steer it.
    let view = cluster.reaches(RotationState::ReEncrypting).await;
    let id = view.id.to_string();
    for command in [
        &["rotate", "audit", "--plan"][..],
        &["columns", "list"],
        &["columns", "check", "--count"],
        &["keys", "list"],
        &["keys", "show", "phi/1"],
        &["census"],
        &["master", "show"],
        &["rotations", "list"],
        &["rotations", "show", &id],
        &["quarantine", "list"],
        &["dead-letters", "list"],
        &["rotations", "pause", &id],
        &["rotations", "resume", &id],
        &["rotations", "cancel", &id, "--because", "a test"],
        &["master", "rotate"],
        &["apply"],
        &["init"],
        &["audit", "verify"],
    ] {
        cluster.rekey(command);
    }
    let dropped = "ALTER TABLE visits DROP COLUMN finding";
    run(&cluster.source, dropped.to_owned()).await;
    cluster.rekey(&["columns", "release", "clinic.visits.finding", "--gone"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_reads_no_wrapped_key_also_where_it_once_could() {
    let cluster = Cluster::of(50, Policy::default()).await;
    let store = cluster.store_as(Worker::Scheduler).await;
    let read = async |column: &str| {
        let sql = format!("SELECT {column} FROM \"key\"");
        sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&store)
            .await
            .is_ok()
    };
    let role = cluster.role(Worker::Scheduler);
    for was_granted in [false, true] {
        if was_granted {
            run(&cluster.store, format!("GRANT SELECT ON \"key\" TO {role}")).await;
            assert!(read("wrapped").await);
            cluster.revoke_former().await;
        }
        assert!(read("state").await);
        for column in ["wrapped", "check_value", "*"] {
            assert!(!read(column).await, "{column}");
        }
    }
    let _workers = cluster.start_all(1);
    cluster.rotate().await;
    cluster.reaches(RotationState::Completed).await;
    cluster.assert_rotated_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_taken_over_speaks_for_nobody_else_unnoticed() {
    let cluster = Cluster::of(50, Policy::default()).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    cluster.reaches(RotationState::Completed).await;
    for worker in workers {
        worker.terminate().await;
    }
    cluster.assert_rotated_once().await;
    let problems = async || {
        let verdict = verify_audit(&cluster.services, &operator()).await;
        verdict.unwrap().problems
    };
    // In its own name it may say what it likes.
    let re_encryptor = cluster.services_as(Worker::ReEncryptor).await;
    forge(&re_encryptor, Worker::ReEncryptor.principal()).await;
    assert_eq!(problems().await, Vec::<String>::new());
    let role = cluster.role(Worker::ReEncryptor);
    for (forged, principal) in [operator(), Worker::Rotator.principal()]
        .into_iter()
        .enumerate()
    {
        forge(&re_encryptor, principal.clone()).await;
        let found = problems().await;
        assert_eq!(found.len(), forged + 1, "{found:?}");
        for part in [&principal.to_string(), &role] {
            assert!(found.iter().any(|one| one.contains(part)), "{found:?}");
        }
    }
    // Nor can it say that another wrote it.
    let store = cluster.store_as(Worker::ReEncryptor).await;
    let lie = "INSERT INTO audit_entry SELECT (SELECT sequence + 1 FROM audit_head), time, principal, action, subject, outcome, \
               details_hash, previous_hash, hash, 'rekey_rotator' FROM audit_entry WHERE sequence = 1 \
               RETURNING written_by";
    let mut unit = store.begin().await.unwrap();
    let written_by: String = sqlx::query_scalar(lie).fetch_one(&mut *unit).await.unwrap();
    unit.rollback().await.unwrap();
    assert_eq!(written_by, role);
    // Who suppresses triggers at a source of the same server suppresses none of the store's.
    let grant = format!("GRANT SET ON PARAMETER session_replication_role TO {role}");
    run(&cluster.store, grant).await;
    let mut suppressing = store.acquire().await.unwrap();
    let suppress = "SET session_replication_role = replica";
    sqlx::query(suppress)
        .execute(&mut *suppressing)
        .await
        .unwrap();
    let written_by = sqlx::query_scalar(lie).fetch_one(&mut *suppressing);
    let written_by: String = written_by.await.unwrap();
    let revoke = format!("REVOKE SET ON PARAMETER session_replication_role FROM {role}");
    run(&cluster.store, revoke).await;
    assert_eq!(written_by, role);
}

/// A certificate says what batches did; who may insert rotations or remove batches cannot have it say more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_role_makes_a_rotation_that_never_was_or_removes_what_one_under_way_did() {
    let cluster = Cluster::of(50, Policy::default()).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    cluster.reaches(RotationState::Completed).await;
    for worker in workers {
        worker.terminate().await;
    }
    let operator = cluster.store_as(Role::Operator).await;
    let forged = "INSERT INTO rotation (id, keyring_id, kind, state, reason, principal, paused, resumptions, urgent, \
        generation, pass, planned, plan_table, resend_at, requested_at, certificate, certificate_due) \
        SELECT gen_random_uuid(), keyring_id, kind, STATE, reason, principal, false, 0, false, 0, 0, true, 0, 0, \
        now(), CERTIFICATE, 0 FROM rotation LIMIT 1";
    for (state, certificate) in [
        ("'COMPLETED'", "certificate"),
        ("'COMPLETED'", "NULL"),
        ("'GRACE'", "certificate"),
    ] {
        let forged = forged
            .replace("STATE", state)
            .replace("CERTIFICATE", certificate);
        let refused = sqlx::query(sqlx::AssertSqlSafe(forged))
            .execute(&operator)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("begins at its beginning"), "{refused}");
    }
    let scheduler = cluster.store_as(Worker::Scheduler).await;
    let state = |state: &str| format!("UPDATE rotation SET state = '{state}'");
    run(&cluster.store, state("VERIFYING")).await;
    for (forged, why) in [
        ("DELETE FROM batch", "batches stay"),
        (
            "UPDATE rotation SET totals = '{}'",
            "totals are of a rotation that is over",
        ),
    ] {
        let refused = sqlx::query(forged).execute(&scheduler).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    run(&cluster.store, state("COMPLETED")).await;
    sqlx::query("DELETE FROM batch")
        .execute(&scheduler)
        .await
        .unwrap();
}

/// What roles may write of some rows and columns, the database keeps them from where it would make a certificate,
/// a date or a published key untrue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_role_writes_what_only_another_can_know() {
    let cluster = Cluster::of(50, Policy::default()).await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    cluster.reaches(RotationState::Completed).await;
    for worker in workers {
        worker.terminate().await;
    }
    let live = "UPDATE rotation SET state = 'VERIFYING', pass = 1, planned = false; \
        UPDATE batch SET state = 'DISPATCHED'";
    // The owner may do anything but take back what is done.
    run(
        &cluster.store,
        "ALTER TABLE batch DISABLE TRIGGER rekey_guard_state".to_owned(),
    )
    .await;
    run(&cluster.store, live.to_owned()).await;
    run(
        &cluster.store,
        "ALTER TABLE batch ENABLE ALWAYS TRIGGER rekey_guard_state".to_owned(),
    )
    .await;
    let operator = cluster.store_as(Role::Operator).await;
    let signing = "INSERT INTO key (key_id, keyring_id, version, state, algorithm, wrapped, check_value, used, \
        used_by_applications, created_at, public_key) SELECT 77, keyring_id, VERSION, 'INACTIVE', algorithm, '', \
        check_value, 0, 0, now(), public_key FROM key WHERE algorithm = 'Ed25519' LIMIT 1";
    for (forged, why) in [
        ("UPDATE rotation SET state = 'COMPLETED'".to_owned(), "only the rotator moves"),
        ("UPDATE rotation SET pass = 0".to_owned(), "a pass is followed by the next"),
        ("UPDATE rotation SET planned = true".to_owned(), "only the rotator plans"),
        ("UPDATE rotation SET plan_table = 9".to_owned(), "only the rotator plans"),
        ("UPDATE rotation SET sweep_columns = '[]'".to_owned(), "only the rotator plans"),
        ("UPDATE rotation SET due_at = now()".to_owned(), "only the rotator says when"),
        ("UPDATE batch SET state = 'DONE'".to_owned(), "done by who did it"),
        ("UPDATE key SET longest_lease = 1 WHERE state = 'ACTIVE'".to_owned(), "only grows"),
        ("UPDATE key SET used = 0 WHERE used > 0".to_owned(), "only added"),
        ("UPDATE key SET activated_at = '2020-01-01'".to_owned(), "dated when it happens"),
        (signing.replace("VERSION", "50"), "keys that sign"),
        (signing.replace("VERSION", "-9"), "begin at 1"),
        (
            "UPDATE keyring SET primary_key_id = (SELECT key_id FROM key WHERE state = 'INACTIVE' LIMIT 1)".to_owned(),
            "replaces a primary key",
        ),
        ("DELETE FROM protected_column".to_owned(), "no rotation works on it"),
        (
            "INSERT INTO audit_entry (sequence, time, principal, action, subject, outcome, details_hash, previous_hash, hash) \
             SELECT -1, time, principal, action, subject, outcome, details_hash, previous_hash, hash FROM audit_entry LIMIT 1".to_owned(),
            "follows the last",
        ),
    ] {
        let refused = sqlx::query(AssertSqlSafe(forged.clone())).execute(&operator).await;
        let refused = refused.expect_err(&forged).to_string();
        assert!(refused.contains(why), "{forged}: {refused}");
    }
    // A rotation that failed may be retried, and then its batches are.
    run(
        &cluster.store,
        "UPDATE rotation SET state = 'FAILED'".to_owned(),
    )
    .await;
    let scheduler = cluster.store_as(Worker::Scheduler).await;
    let refused = sqlx::query("DELETE FROM batch").execute(&scheduler).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("batches stay"), "{refused}");
}

/// Appends an entry in the name of `principal`, with the rights of whoever these services are of.
async fn forge(services: &Services, principal: Principal) {
    let pen = services.pen(&principal).await.unwrap();
    let unit = services.store.begin().await.unwrap();
    let record = Record {
        action: Action::CertificateSigned,
        subject: "phi",
        outcome: "done",
        details: Value::Null,
    };
    pen.append(&unit, record).await.unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workers_in_one_role_keep_what_one_of_them_needs() {
    let database = Database::create(OWNER).await;
    let desk = Desk::new();
    desk.configure(&format!(
        "backup = \"off\"\n[store]\nurl = \"{}\"\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n",
        database.url_as(OWNER)
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let apart = desk.rekey(&["grants"], b"").stdout;
    assert!(
        apart.contains("REVOKE") && apart.contains("rekey_rotator"),
        "{apart}"
    );
    let together = desk.rekey(&["grants", "--up"], b"").stdout;
    let revoked = |line: &str| line.starts_with("REVOKE") && line.contains("rekey_up");
    assert!(!together.lines().any(revoked), "{together}");
    for other in [
        "rekey_rotator",
        "rekey_scheduler",
        "rekey_re_encryptor",
        "rabbitmqctl",
    ] {
        assert!(!together.contains(other), "{other}: {together}");
    }
    assert!(together.contains("rekey_operator"), "{together}");
    let one = desk
        .rekey(&["grants", "--up", "--output", "json"], b"")
        .stdout;
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    let of_up = one["grants"].as_array().unwrap().iter();
    let of_up: Vec<_> = of_up.filter(|one| one["role"] == "rekey_up").collect();
    assert!(of_up.len() > 1);
    for one in &of_up {
        assert_eq!(
            one["rabbitmq"], of_up[0]["rabbitmq"],
            "set_permissions replaces"
        );
    }
}

#[tokio::test]
async fn no_role_that_a_program_of_ours_connects_as_is_a_superuser_or_goes_around_rights() {
    let database = Database::create(OWNER).await;
    for role in ALL {
        let more = "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb \
             OR pg_has_role(current_user, 'pg_read_all_data', 'MEMBER') \
             FROM pg_roles WHERE rolname = current_user";
        let pool = database.pool_as(role).await;
        let more: bool = sqlx::query_scalar(more).fetch_one(&pool).await.unwrap();
        assert!(!more, "{role}");
    }
}

/// The store is a source too, and is where it is whoever says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_applies_finds_the_store_where_another_made_it() {
    let cluster = Cluster::of(0, Policy::default()).await;
    for _ in 0..2 {
        let by_the_owner = cluster.rekey_as([OWNER, OPERATOR], &["apply"]);
        let by_an_operator = cluster.rekey(&["apply"]);
        for said in [by_the_owner, by_an_operator] {
            assert!(!said.contains("url changed"), "{said}");
        }
    }
}
