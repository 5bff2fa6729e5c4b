//! Plans and checks of a table that the application has locked: waited for, then told from what a person must mend.

use rekey_tests::roles::{APPLICATION, Database, run};
use serde_json::Value;
use sqlx::PgPool;

use crate::command_line::Desk;

const LOCK: &str = "LOCK TABLE patients IN ACCESS EXCLUSIVE MODE";

const PLAN: [&str; 5] = ["--output", "json", "rotate", "phi", "--plan"];
const COUNT: [&str; 6] = ["--output", "json", "rotate", "phi", "--plan", "--count"];
const CHECK: [&str; 4] = ["--output", "json", "columns", "check"];
const OF_ONE: [&str; 6] = [
    "--output",
    "json",
    "columns",
    "check",
    "clinic.patients.ssn",
    "--count",
];

async fn clinic() -> (Desk, PgPool, Database) {
    let database = Database::create(APPLICATION).await;
    let pool = database.pool_as(APPLICATION).await;
    run(
        &pool,
        "CREATE TABLE patients (id int PRIMARY KEY, ssn bytea, note text); INSERT INTO patients VALUES (1)",
    )
    .await;
    let desk = Desk::new();
    desk.configure(&format!(
        "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"\nurl = \"{}\"\n\
         [[source.table]]\nname = \"patients\"\ncolumns = {{ ssn = {{ keyring = \"phi\", bind = \"row\" }} }}\n",
        database.url_as(APPLICATION)
    ));
    let made = desk.rekey(&["init"], b"");
    assert_eq!(made.code, 0, "{}", made.stderr);
    (desk, pool, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_no_matter_for_a_person_and_what_was_not_looked_at_is_no_success() {
    let (desk, pool, _database) = clinic().await;
    let mut application = pool.begin().await.unwrap();
    sqlx::query(LOCK).execute(&mut *application).await.unwrap();
    for asked in [&PLAN[..], &COUNT, &CHECK, &OF_ONE] {
        let answer = desk.rekey(asked, b"");
        let found: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(answer.code, 5, "{asked:?} {} {}", found, answer.stderr);
        let found = found["findings"].as_array().unwrap();
        let locked = found.iter().find(|one| one["need"] == "time").unwrap();
        let problem = locked["problem"].as_str().unwrap();
        assert!(problem.contains("held by"), "{asked:?} {problem}");
        assert!(
            !found.iter().any(|one| one["need"] == "person"),
            "{found:?}"
        );
    }
    for (asked, said) in [
        (
            &OF_ONE[2..],
            "1 protected column(s): no value of them was looked at",
        ),
        (
            &CHECK[2..],
            "2 of 3 protected column(s): some of their values were looked at; no value of the others was",
        ),
    ] {
        let people = desk.rekey(asked, b"").stdout;
        assert!(people.contains(said), "{people}");
    }
    application.rollback().await.unwrap();
    for asked in [&PLAN[..], &CHECK] {
        let answer = desk.rekey(asked, b"");
        assert_eq!(answer.code, 0, "{} {}", answer.stdout, answer.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_a_moment_is_waited_for() {
    let (desk, pool, _database) = clinic().await;
    for asked in [&PLAN[..], &CHECK] {
        let mut application = pool.begin().await.unwrap();
        sqlx::query(LOCK).execute(&mut *application).await.unwrap();
        let held = tokio::spawn(async move {
            // Longer than our sessions wait for a lock.
            sqlx::query("SELECT pg_sleep(1)")
                .execute(&mut *application)
                .await
                .unwrap();
            application.rollback().await.unwrap();
        });
        let answer = tokio::task::block_in_place(|| desk.rekey(asked, b""));
        held.await.unwrap();
        assert_eq!(answer.code, 0, "{} {}", answer.stdout, answer.stderr);
    }
}
