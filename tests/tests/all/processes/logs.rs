//! What others write (a trigger's words, a table's name) and where it must not come to: logs, events, dead letters.

use rekey_domain::{RotationState, Worker};
use rekey_tests::{
    cluster::{Cluster, Policy},
    process::Process,
    support::until,
};
use sqlx::{AssertSqlSafe, PgPool};

/// What a patient is called; with what would be a line of a log of its own.
const CANARY: &str = "Ana Ruiz\n2026-01-01T00:00:00.000000Z  INFO rekey_rotator: forged";

async fn run(database: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(database);
    done.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn logged(workers: &[Process]) -> Vec<String> {
    workers.iter().flat_map(Process::said).collect()
}

/// Of everything that the store keeps, the rows that hold these words.
async fn kept(store: &PgPool, words: &str) -> Vec<String> {
    let tables = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(store).await.unwrap();
    let mut kept = Vec::new();
    for table in tables {
        let rows = format!("SELECT t::text FROM \"{table}\" t WHERE t::text LIKE '%' || $1 || '%'");
        let rows = sqlx::query_scalar(AssertSqlSafe(rows)).bind(words);
        kept.extend::<Vec<String>>(rows.fetch_all(store).await.unwrap());
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_raises_is_in_no_log_event_or_dead_letter() {
    let policy = Policy {
        retry_attempts: 1,
        ..Policy::default()
    };
    let cluster = Cluster::of(40, policy).await;
    let loud = format!(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('client_min_messages', 'debug1', false);
             RAISE DEBUG '%', '{CANARY}'; RAISE INFO '%', '{CANARY}';
             RAISE NOTICE '%', '{CANARY}'; RAISE WARNING '%', '{CANARY}';
             IF NEW.id = 7 THEN RAISE EXCEPTION '%', '{CANARY}'
                 USING ERRCODE = '23514', CONSTRAINT = '{CANARY}', TABLE = '{CANARY}', COLUMN = '{CANARY}',
                     DETAIL = '{CANARY}', HINT = '{CANARY}', DATATYPE = '{CANARY}', SCHEMA = '{CANARY}'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER loud BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION loud()"
    );
    run(&cluster.source, &loud).await;
    cluster.fire_triggers();
    let everything = [("REKEY_LOG", "trace,sqlx::postgres::notice=trace")];
    let workers = [Worker::Scheduler, Worker::Rotator, Worker::ReEncryptor]
        .map(|worker| cluster.start_with(worker, &everything));
    cluster.rotate().await;
    cluster.reaches(RotationState::Failed).await;
    let lines = logged(&workers);
    assert!(
        lines.iter().any(|line| line.contains("trigger loud")),
        "{lines:#?}"
    );
    let told: Vec<_> = lines.iter().filter(|line| line.contains("Ruiz")).collect();
    assert!(told.is_empty(), "{told:#?}");
    let forged = lines.iter().any(|line| line.contains("forged"));
    assert!(!forged, "{lines:#?}");
    assert_eq!(kept(&cluster.store, "Ruiz").await, [""; 0]);
    for command in [&["rotations", "list"][..], &["dead-letters", "list"]] {
        assert!(!cluster.rekey(command).contains("Ruiz"), "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_name_of_a_table_is_one_line_wherever_it_is_told() {
    let cluster = Cluster::of(40, Policy::default()).await;
    // No longer than names may be.
    let name = "a\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{202e}";
    // Nobody was given a right on it, so whoever comes to it says its name.
    run(
        &cluster.source,
        &format!("CREATE TABLE \"{name}\" () INHERITS (patients)"),
    )
    .await;
    let workers = cluster.start_all(1);
    cluster.rotate().await;
    let paused = until("a rotation on hold", async || {
        let view = cluster.rotation().await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = paused.paused_because.unwrap();
    assert!(why.contains("forged"), "{why}");
    let lines = until("a line of it", async || {
        let lines = logged(&workers);
        lines
            .iter()
            .any(|line| line.contains("forged"))
            .then_some(lines)
    })
    .await;
    let shown = cluster.rekey(&["rotations", "show", &paused.id.to_string()]);
    assert!(shown.contains("forged"), "{shown}");
    let lines = lines.iter().map(String::as_str).chain(shown.lines());
    for line in lines {
        assert!(!line.starts_with("2026-01-01"), "{line}");
        let steers = line.contains(['\u{1b}', '\u{202e}', '\r']);
        assert!(!steers, "{line:?}");
    }
}

/// Who looks at a log at 3 a.m. finds one line a loss, not one a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_the_store_that_is_lost_is_one_line_and_so_is_its_return() {
    let cluster = Cluster::of(0, Policy::default()).await;
    let worker = cluster.start_with(Worker::Rotator, &[("REKEY_LOG", "debug")]);
    let role = cluster.role(Worker::Rotator);
    let connected = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND query LIKE 'LISTEN%'"
    );
    let connected = async || {
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(connected.clone()));
        count.fetch_one(&cluster.store).await.unwrap() == 1
    };
    until("a listener", async || connected().await.then_some(())).await;
    // Nobody gets in while it is away, so that it tries in vain.
    run(&cluster.store, &format!("ALTER ROLE {role} NOLOGIN")).await;
    let all =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    run(&cluster.store, &all).await;
    let said = |words: &str| {
        worker
            .said()
            .iter()
            .filter(|line| line.contains(words))
            .count()
    };
    until("a line of the loss", async || {
        (said("is lost") > 0).then_some(())
    })
    .await;
    until("two attempts in vain", async || {
        (said("no sign of life") > 1).then_some(())
    })
    .await;
    assert!(said("messages wait") <= 1, "{:#?}", worker.said());
    assert_eq!(said("is lost"), 1);
    run(&cluster.store, &format!("ALTER ROLE {role} LOGIN")).await;
    until("a line of the return", async || {
        (said("connected to the store") > 0).then_some(())
    })
    .await;
    assert_eq!(said("connected to the store"), 1, "{:#?}", worker.said());
    assert_eq!(said("is lost"), 1);
}
