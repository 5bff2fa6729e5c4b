//! What a rotation waits for is said, costs no attempt, and is gone on with; what no waiting mends puts it on hold.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rekey_operations::{resume_rotation, status};
use rekey_tests::{
    roles::{APPLICATION, Database, run},
    support::{Engine, operator, until},
};

use crate::{
    command_line::Desk,
    sources::postgres_source::{ACCEPTED, Clinic},
};

/// How soon people are told.
const SOON: Duration = Duration::from_secs(14);

async fn half_rotated(clinic: &Clinic) -> Engine {
    clinic.insert(r#""Visits""#, 1, 300).await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    until("some batches that are done", async || {
        let done = "SELECT count(*) FROM batch WHERE state = 'DONE'";
        (clinic.in_store(done).await > 1).then_some(())
    })
    .await;
    engine
}

/// As VACUUM FULL does. Its keyring allows one attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_is_waited_for_however_long_and_who_holds_it_is_said() {
    let clinic = Clinic::new(ACCEPTED).await;
    let mut application = clinic.application.begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *application)
        .await
        .unwrap();
    let engine = half_rotated(&clinic).await;
    sqlx::query(r#"LOCK TABLE "Visits" IN ACCESS EXCLUSIVE MODE"#)
        .execute(&mut *application)
        .await
        .unwrap();
    let mut tries = BTreeSet::new();
    let view = until("more tries than attempts are allowed", async || {
        let tried = "SELECT max(resend_at) FROM batch WHERE waiting_since IS NOT NULL";
        if clinic
            .in_store("SELECT count(*) FROM batch WHERE waiting_since IS NOT NULL")
            .await
            > 0
        {
            tries.insert(clinic.in_store(tried).await);
        }
        let view = clinic.rotation().await?;
        assert_eq!(view.failure, None);
        (tries.len() > 4).then_some(view)
    })
    .await;
    let said = view.waiting.join("; ");
    assert!(said.contains(&format!("held by process {pid}")), "{said}");
    assert!(view.waiting_since.is_some());
    application.rollback().await.unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 300);
    assert_eq!((view.quarantined, view.waiting), (0, Vec::new()));
    assert_eq!(
        status(&clinic.services, &operator())
            .await
            .unwrap()
            .dead_letters,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_there_puts_the_rotation_on_hold_with_the_reason() {
    let clinic = Clinic::new(ACCEPTED).await;
    let engine = half_rotated(&clinic).await;
    clinic
        .execute(r#"ALTER TABLE "Visits" RENAME TO encounters"#)
        .await;
    let view = until("the rotation on hold", async || {
        let view = clinic.rotation().await?;
        assert_eq!(view.failure, None);
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = view.paused_because.unwrap();
    assert!(why.contains("no table") && why.contains("Visits"), "{why}");
    let needs = status(&clinic.services, &operator())
        .await
        .unwrap()
        .needs_a_person;
    assert!(needs.iter().any(|need| need.contains(&why)), "{needs:?}");
    assert_eq!(
        status(&clinic.services, &operator())
            .await
            .unwrap()
            .dead_letters,
        0
    );
    clinic
        .execute(r#"ALTER TABLE encounters RENAME TO "Visits""#)
        .await;
    resume_rotation(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 300);
}

/// `rekey up`, until it is dropped, and where it says how it is.
pub struct Works {
    process: Child,
    place: String,
}

impl Works {
    pub fn start(desk: &Desk) -> Self {
        let mut command = desk.command(&["up"]);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let started = lines.find(|line| line.as_ref().unwrap().contains("listen"));
        let place = started.unwrap().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let place = place.split("127.0.0.1:").nth(1).unwrap();
        let port: String = place.chars().take_while(char::is_ascii_digit).collect();
        Self {
            process,
            place: format!("127.0.0.1:{port}"),
        }
    }

    /// As who stops it at once.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `rekey status` says, once it says this.
fn status_says(desk: &Desk, code: i32, what: &str) -> String {
    let asked = Instant::now();
    loop {
        let status = desk.rekey(&["status"], b"");
        if status.code == code && status.stdout.contains(what) {
            return status.stdout;
        }
        assert!(
            asked.elapsed() < SOON,
            "not said in time: {what}, but {} {}{}",
            status.code,
            status.stdout,
            status.stderr
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_work_and_what_workers_lack_is_said_within_seconds() {
    let database = Database::create(APPLICATION).await;
    run(
        &database.pool_as(APPLICATION).await,
        "CREATE TABLE patients (id integer PRIMARY KEY, ssn bytea)",
    )
    .await;
    let desk = Desk::new();
    desk.configure(&format!(
        "backup = \"off\"\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n\
         [[source]]\nname = \"clinic\"\nurl = \"{}\"\n\
         [[source.table]]\nname = \"patients\"\ncolumns = {{ ssn = {{ keyring = \"phi\", bind = \"row\" }} }}\n",
        database.url_as(APPLICATION)
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    status_says(&desk, 3, "no worker runs");
    let asked = desk.rekey(&["sweep", "phi"], b"");
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert!(asked.stderr.contains("no worker runs"), "{}", asked.stderr);
    let waited = desk.rekey(&["rotate", "phi", "--wait", "--timeout", "6s"], b"");
    assert_eq!(waited.code, 5, "{}", waited.stderr);
    let said = "nobody has begun it yet, waiting: no worker runs";
    assert!(waited.stderr.contains(said), "{}", waited.stderr);
    let works = Works::start(&desk);
    for (path, said) in [
        ("livez", "alive"),
        ("readyz", "\"ready\":true"),
        ("metrics", "rekey_"),
    ] {
        let answer = get(&works.place, path).await;
        assert!(answer.contains(said), "{path}: {answer}");
    }
    status_says(&desk, 0, "nothing needs a person");
    let role = database.roles().name(APPLICATION);
    let administrator = database.administrator().await;
    run(&administrator, &format!("ALTER ROLE {role} NOLOGIN")).await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    run(&administrator, &end).await;
    status_says(&desk, 3, "lacks: source clinic: ");
    // A rotation without a column there does not wait for it.
    assert_eq!(desk.rekey(&["rotate", "audit"], b"").code, 0);
    let said = status_says(&desk, 3, "  audit    switch  ");
    let waits = said.lines().filter(|line| line.contains(" waits: "));
    let for_it = waits.filter(|line| line.contains("lacks: source clinic"));
    assert_eq!(for_it.count(), 1, "the one of phi: {said}");
    run(&administrator, &format!("ALTER ROLE {role} LOGIN")).await;
    status_says(&desk, 0, "nothing needs a person");
    works.kill();
    status_says(
        &desk,
        3,
        "no worker runs (of those that did not end as they should the last sign of life was at ",
    );
    let works = Works::start(&desk);
    status_says(&desk, 0, "nothing needs a person");
    drop(works);
}

/// As while it fails over: whoever waits is told by then, and not when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_while_is_let_go_though_the_store_does_not_answer() {
    let database = Database::create(APPLICATION).await;
    let desk = Desk::new();
    desk.configure(&format!(
        "backup = \"off\"\n[store]\nurl = \"{}\"\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n",
        database.url_as(APPLICATION)
    ));
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    let works = Works::start(&desk);
    assert_eq!(desk.rekey(&["rotate", "phi"], b"").code, 0);
    until("the rotation", async || {
        let list = desk.rekey(&["rotations", "list"], b"").stdout;
        list.contains("phi").then_some(())
    })
    .await;
    let administrator = database.administrator().await;
    let mut theirs = administrator.begin().await.unwrap();
    let lock = "LOCK TABLE batch, rotation IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *theirs).await.unwrap();
    let asked = Instant::now();
    let mut waits = desk.command(&["rotate", "phi", "--wait", "--timeout", "3s"]);
    let waits = waits.stdin(Stdio::null()).stderr(Stdio::piped());
    let waited = waits.spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(waited.stderr).unwrap();
    assert_eq!(waited.status.code(), Some(5), "{said}");
    assert!(said.contains("in time"), "{said}");
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    theirs.rollback().await.unwrap();
    drop(works);
}

async fn get(place: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(place).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
