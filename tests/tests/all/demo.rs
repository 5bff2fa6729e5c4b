//! `rekey demo` on PostgreSQL and RabbitMQ: what it makes, what it leaves, what it refuses.

use std::process::{Command, Stdio};

use rekey_testkit::{program, rabbitmq::TestBroker};
use serde_json::Value;
use tempfile::TempDir;

use rekey_tests::{
    process::Process,
    roles::{Database, OWNER},
    support::until,
};

const DATABASE: &str = "REKEY_DEMO_DATABASE_URL";
const SOURCE: &str = "REKEY_DEMO_SOURCE_URL";
const AMQP: &str = "REKEY_DEMO_AMQP_URL";
const FIELDS: [&str; 8] = [
    "all_rows_verified",
    "backups",
    "conflicts",
    "quarantined",
    "rows",
    "rows_per_second",
    "rows_under_old_key",
    "seconds",
];

/// A state directory, and what the environment of the demo says.
struct Demo {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Demo {
    fn with(environment: &[(&'static str, &str)]) -> Self {
        let said = environment.iter();
        Self {
            dir: tempfile::tempdir().unwrap(),
            environment: said.map(|(name, url)| (*name, (*url).to_owned())).collect(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("rekey"));
        command.args(["--output", "json"]).args(arguments);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("REKEY_STATE_DIR", self.dir.path().join("state"));
        command.envs(self.environment.iter().map(|(name, url)| (name, url)));
        command
    }

    async fn rekey(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command(arguments);
        let done = tokio::task::spawn_blocking(move || command.output());
        let done = done.await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer {
            code: done.status.code().unwrap_or(-1),
            stdout: text(done.stdout),
            stderr: text(done.stderr),
        }
    }

    async fn completes(&self, rows: &str) -> Answer {
        let answer = self.rekey(&["demo", "--rows", rows]).await;
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        let report: Value = serde_json::from_str(&answer.stdout).unwrap();
        let fields: Vec<_> = report.as_object().unwrap().keys().collect();
        assert_eq!(fields, FIELDS);
        assert_eq!(report["rows_under_old_key"], 0);
        assert_eq!(report["all_rows_verified"], true);
        assert_eq!(report["quarantined"], 0);
        answer
    }

    fn made_nothing(&self) -> bool {
        !self.dir.path().join("state").exists()
    }
}

async fn has_schema(database: &Database) -> bool {
    let look = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'rekey_demo')";
    let pool = database.administrator().await;
    sqlx::query_scalar(look).fetch_one(&pool).await.unwrap()
}

async fn create_schema(database: &Database) {
    let create = sqlx::query("CREATE SCHEMA rekey_demo");
    create
        .execute(&database.administrator().await)
        .await
        .unwrap();
}

/// Every table of the database that is not the server's own, as `schema.table` and a digest of its rows.
async fn contents(database: &Database) -> Vec<(String, String)> {
    let pool = database.administrator().await;
    let tables = "SELECT n.nspname::text, c.relname::text, \
         md5(query_to_xml(format('SELECT * FROM %I.%I ORDER BY 1', n.nspname, c.relname), true, false, '')::text) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(tables).fetch_all(&pool).await.unwrap();
    let named = rows.into_iter();
    named
        .map(|(schema, table, digest)| (format!("{schema}.{table}"), digest))
        .collect()
}

async fn names_at(broker: &TestBroker) -> Vec<String> {
    let mut names = broker.management.names("queues").await;
    names.extend(broker.management.names("exchanges").await);
    names.retain(|name| name.contains("rekey"));
    names
}

/// Waits until nothing of ours is at the broker; what a process had ends with its connection.
async fn is_left(broker: &TestBroker) {
    until("a broker without our names", async || {
        names_at(broker).await.is_empty().then_some(())
    })
    .await;
}

/// Waits until a process takes messages from the broker; answers the names that there are then.
async fn is_used(broker: &TestBroker) -> Vec<String> {
    until("a queue of a process", async || {
        let names = names_at(broker).await;
        let used = names.iter().any(|name| name.contains(".rekey.process."));
        used.then_some(names)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_on_a_directory_that_has_one_is_refused_and_changes_nothing() {
    let demo = Demo::with(&[]);
    demo.completes("20").await;
    let source = demo.dir.path().join("state/source.db");
    let before = std::fs::read(&source).unwrap();
    let again = demo.rekey(&["demo", "--rows", "20"]).await;
    assert_eq!(again.code, 4, "{}", again.stderr);
    assert!(
        again.stderr.contains("is there already"),
        "{}",
        again.stderr
    );
    assert_eq!(std::fs::read(&source).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_whose_key_leaks_refuses_it_at_once_moves_every_row_and_fails_no_read() {
    let demo = Demo::with(&[]);
    let answer = demo.rekey(&["demo", "--rows", "500", "--compromise"]).await;
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    let outcome = &report["compromise"];
    assert!(
        outcome["refused_after_ms"].as_u64().unwrap() <= 1_000,
        "{report}"
    );
    assert_eq!(outcome["failed_reads"], 0);
    assert_eq!(outcome["rows_under_compromised_key"], 0);
    assert!(outcome["notifications"].as_u64().unwrap() >= 1, "{report}");
    assert_eq!(report["all_rows_verified"], true);
    let shown = ["incidents", "show", outcome["incident"].as_str().unwrap()];
    let incident = demo.rekey(&shown).await;
    assert!(incident.stdout.contains("phi/1"), "{}", incident.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_whose_store_and_master_key_are_lost_brings_every_row_back() {
    let demo = Demo::with(&[]);
    let answer = demo.rekey(&["demo", "--rows", "500", "--disaster"]).await;
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    let outcome = &report["disaster"];
    assert!(outcome["keys_restored"].as_u64().unwrap() >= 4, "{report}");
    assert_eq!(outcome["rows_verified"], report["rows"], "{report}");
    let status = demo.rekey(&["audit", "verify"]).await;
    assert_eq!(status.code, 0, "{}", status.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_over_postgresql_and_rabbitmq_stays_in_its_schema_and_a_second_is_refused() {
    let (database, broker) = (Database::create(OWNER).await, TestBroker::create().await);
    let demo = Demo::with(&[(DATABASE, &database.url_as(OWNER)), (AMQP, &broker.url())]);
    let (first, names) = tokio::join!(demo.completes("1000"), is_used(&broker));
    let foreign = names.iter().find(|name| !name.starts_with("rekey_demo."));
    assert_eq!(foreign, None);
    for said in [database.name(), "DROP SCHEMA rekey_demo CASCADE"] {
        assert!(first.stderr.contains(said), "{}", first.stderr);
    }
    let after = contents(&database).await;
    assert!(
        after
            .iter()
            .any(|(table, _)| table == "rekey_demo.patients")
    );
    assert!(
        after
            .iter()
            .any(|(table, _)| table == "rekey_demo.rotation")
    );
    assert!(
        after
            .iter()
            .all(|(table, _)| table.starts_with("rekey_demo."))
    );
    is_left(&broker).await;

    let second = demo.rekey(&["demo", "--rows", "1000"]).await;
    assert_eq!(second.code, 4, "{}", second.stderr);
    for said in ["rekey_demo", database.name()] {
        assert!(second.stderr.contains(said), "{}", second.stderr);
    }
    assert_eq!(second.stdout, "");
    assert_eq!(contents(&database).await, after);
    assert_eq!(names_at(&broker).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_stopped_leaves_nothing_at_the_broker_and_says_what_stays() {
    let (database, broker) = (Database::create(OWNER).await, TestBroker::create().await);
    let demo = Demo::with(&[(DATABASE, &database.url_as(OWNER)), (AMQP, &broker.url())]);
    let mut running = Process::spawn(demo.command(&["demo", "--rows", "1000"]));
    is_used(&broker).await;
    running.signal("TERM");
    let status = running.end().await.unwrap();
    let said = running.said().join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("DROP SCHEMA rekey_demo CASCADE"), "{said}");
    is_left(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_with_the_patients_elsewhere_can_be_looked_at_by_its_stores_url() {
    let databases = [Database::create(OWNER).await, Database::create(OWNER).await];
    let [store, source] = &databases;
    let mut demo = Demo::with(&[
        (DATABASE, &store.url_as(OWNER)),
        (SOURCE, &source.url_as(OWNER)),
    ]);
    demo.completes("20").await;
    let patients: Vec<_> = contents(source).await;
    let tables: Vec<_> = patients.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(tables, ["rekey_demo.patients"]);
    assert!(
        contents(store)
            .await
            .iter()
            .all(|(table, _)| table != "rekey_demo.patients")
    );

    let url = format!(
        "{}?options=-c%20search_path%3Drekey_demo",
        store.url_as(OWNER)
    );
    let server = source.url_as(OWNER);
    let (_, server) = server.split_once("://").unwrap();
    let password = server.split([':', '@']).nth(1).unwrap().to_owned();
    demo.environment = vec![("REKEY__STORE__URL", url), ("PGPASSWORD", password)];
    let verified = demo.rekey(&["audit", "verify"]).await;
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let census = demo.rekey(&["census"]).await;
    assert_eq!(census.code, 0, "{}", census.stderr);
    for column in ["clinic.patients.notes", "rekey.audit_detail.details"] {
        assert!(census.stdout.contains(column), "{}", census.stdout);
    }
}

#[tokio::test]
async fn a_schema_in_either_database_refuses_the_demo_before_it_makes_anything() {
    let (store, source) = (Database::create(OWNER).await, Database::create(OWNER).await);
    create_schema(&source).await;
    let broker = TestBroker::create().await;
    let amqp = (AMQP, &*broker.url());
    for (one, other) in [(&store, &source), (&source, &store)] {
        let demo = Demo::with(&[
            (DATABASE, &one.url_as(OWNER)),
            (SOURCE, &other.url_as(OWNER)),
            amqp,
        ]);
        let answer = demo.rekey(&["demo"]).await;
        assert_eq!(answer.code, 4, "{}", answer.stderr);
        assert!(answer.stderr.contains(source.name()), "{}", answer.stderr);
        assert!(!has_schema(&store).await && demo.made_nothing());
        assert_eq!(names_at(&broker).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn one_database_under_two_urls_is_a_wrong_argument_and_nothing_stays() {
    let (database, broker) = (Database::create(OWNER).await, TestBroker::create().await);
    let other = format!("{}?application_name=clinic", database.url_as(OWNER));
    let demo = Demo::with(&[
        (DATABASE, &database.url_as(OWNER)),
        (SOURCE, &other),
        (AMQP, &broker.url()),
    ]);
    let answer = demo.rekey(&["demo"]).await;
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("--source-url"), "{}", answer.stderr);
    assert!(!has_schema(&database).await);
    assert_eq!(names_at(&broker).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_password_in_an_argument_is_refused_with_the_variable_to_use() {
    let database = Database::create(OWNER).await;
    let url = database.url_as(OWNER).replace("only-in-tests", "hunter2");
    let as_option = "postgres://ana@db.clinic/x?password=hunter2";
    for (arguments, variable) in [
        (vec!["--database-url", url.as_str()], DATABASE),
        (vec!["--database-url", as_option], DATABASE),
        (
            vec![
                "--database-url",
                "postgres://ana@db.clinic/x",
                "--source-url",
                &url,
            ],
            SOURCE,
        ),
        (
            vec![
                "--database-url=postgres://ana@db.clinic/x",
                "--amqp-url=amqp://ana:hunter2@mq.clinic/%2f",
            ],
            AMQP,
        ),
    ] {
        let demo = Demo::with(&[]);
        let answer = demo.rekey(&[&["demo"], &arguments[..]].concat()).await;
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains(variable), "{}", answer.stderr);
        assert!(!answer.stderr.contains("hunter2") && answer.stdout.is_empty());
        assert!(demo.made_nothing() && !has_schema(&database).await);
    }
}

#[tokio::test]
async fn the_broker_and_the_source_need_a_database_and_help_shows_no_password() {
    for name in [SOURCE, AMQP] {
        let demo = Demo::with(&[(name, "amqp://ana:hunter2@mq.clinic/%2f")]);
        assert_eq!(demo.rekey(&["demo"]).await.code, 2);
        let help = demo.rekey(&["demo", "--help"]).await;
        assert!(help.stdout.contains(name) && !help.stdout.contains("hunter2"));
    }
}
