//! The command line as people and programs meet it: what it prints, its exit codes, what it refuses.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rekey_testkit::{program, services};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[[keyring]]
name = "phi"
purpose = "PHI"

[[source]]
name = "clinic"
url = "sqlite:///SOURCE"
[[source.table]]
name = "patients"
relation = "patients"
columns = { ssn = { keyring = "phi", bind = "row" }, notes = { keyring = "phi", bind = ["uuid"] } }
"#;

/// A directory with a configuration, a source and, once initialised, a deployment.
pub struct Desk {
    dir: tempfile::TempDir,
}

pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Desk {
    pub fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let source = desk.file("source.db");
        in_a_runtime(async {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(&source)
                .create_if_missing(true);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            let table = "CREATE TABLE patients (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, ssn BLOB, notes TEXT)";
            sqlx::query(table).execute(&pool).await.unwrap();
            pool.close().await;
        });
        desk.configure(&CONFIG.replace("/SOURCE", source.to_str().unwrap()));
        desk
    }

    pub fn initialised() -> Self {
        let desk = Self::new();
        let answer = desk.rekey(&["init"], b"");
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        desk
    }

    /// One whose master key is in the emulator of AWS KMS, behind an alias of its own.
    fn with_aws() -> Self {
        let desk = Self::new();
        let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
        let alias = format!("alias/rekey-test-{}", uuid::Uuid::new_v4());
        let url = services::url(services::KMS);
        let kms = format!(
            "[kms]\nprovider = \"aws\"\nmaster_key = \"{alias}\"\nregion = \"eu-west-3\"\nendpoint_url = \"{url}\"\n"
        );
        desk.configure(&(kms + &config));
        desk
    }

    /// A command with credentials for it.
    fn aws(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.file("rekey.toml"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("rekey"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("REKEY_STATE_DIR", self.file("state"));
        command
            .env_remove("REKEY_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn rekey(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let mut child = self.command(arguments).spawn().unwrap();
        // A command that refuses its arguments may be gone before it reads.
        let _ = child.stdin.take().unwrap().write_all(input);
        Answer::of(child.wait_with_output().unwrap())
    }

    /// What `rekey status` says, whether it asks for a person or not.
    pub fn status(&self) -> Value {
        let status = self.rekey(&["--output", "json", "status"], b"");
        serde_json::from_str(&status.stdout).unwrap()
    }

    /// Where no worker runs, `rekey status` says that, and here nothing else but that there is no RECOVERY key.
    pub fn assert_needs_workers_only(&self) {
        let status = self.status();
        let needs = status["needs_a_person"].as_array().unwrap();
        let is_known = |need: &Value| {
            let need = need.as_str().unwrap();
            need.starts_with("no worker runs") || need.contains("sealed to no RECOVERY key")
        };
        assert!(needs.iter().all(is_known), "{needs:?}");
    }

    /// Runs SQL on the store.
    pub fn on_store(&self, sql: &str) {
        on_sqlite(&self.file("state").join("store.db"), sql);
    }

    /// Runs SQL on the clinic's database.
    pub fn on_source(&self, sql: &str) {
        on_sqlite(&self.file("source.db"), sql);
    }

    /// The ciphertext of a patient's number.
    pub fn sealed(&self, patient: i64) -> Vec<u8> {
        let file = self.file("source.db");
        in_a_runtime(async move {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            let sql = "SELECT ssn FROM patients WHERE id = $1";
            let found = sqlx::query_scalar(sql).bind(patient).fetch_one(&pool).await;
            pool.close().await;
            found.unwrap()
        })
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.rekey(&[&["--output", "json"], arguments].concat(), b"");
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
        serde_json::from_str(&answer.stdout).unwrap()
    }
}

fn on_sqlite(file: &Path, sql: &str) {
    in_a_runtime(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

/// Runs `work` to its end, in tests with a runtime of their own too.
fn in_a_runtime<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(work)).join().unwrap())
}

#[test]
fn the_demo_prints_one_object_and_nothing_else() {
    let desk = Desk::new();
    let answer = desk.rekey(&["--output", "json", "demo", "--rows", "500"], b"");
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    let mut fields: Vec<_> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    let expected = [
        "all_rows_verified",
        "backups",
        "conflicts",
        "quarantined",
        "rows",
        "rows_per_second",
        "rows_under_old_key",
        "seconds",
    ];
    assert_eq!(fields, expected);
    assert_eq!(report["rows_under_old_key"], 0);
    assert_eq!(report["all_rows_verified"], true);
    // `REKEY_STATE_DIR` was said, so everything is kept there, for its owner only.
    for name in ["store.db", "source.db", "master.key"] {
        assert!(desk.file("state").join(name).exists(), "{name}");
    }
    assert_eq!(
        fs::metadata(desk.file("state"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
}

#[test]
fn init_makes_a_primary_and_a_standby_of_each_keyring_and_again_changes_nothing() {
    let desk = Desk::initialised();
    let first = desk.json(&["keys", "list"]);
    assert_eq!(first["schema"], "rekey.keys/v1");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    assert_eq!(desk.json(&["keys", "list"]), first);
    let status = desk.status();
    let keyrings = status["keyrings"].as_array().unwrap();
    let primaries: Vec<_> = keyrings.iter().map(|one| &one["primary"]).collect();
    assert_eq!(primaries, ["audit/1", "backup/1", "phi/1", "signing/1"]);
}

#[test]
fn a_value_goes_through_stdin_and_opens_only_in_its_place() {
    let desk = Desk::initialised();
    let place = ["--column", "clinic.patients.ssn", "--bind", "42"];
    let sealed = desk.rekey(&[&["encrypt"], &place[..]].concat(), b"123-45-6789");
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    assert!(
        sealed.stdout.starts_with("AQ")
            || sealed.stdout.starts_with("AX")
            || sealed.stdout.starts_with('A')
    );
    let opened = desk.rekey(
        &[&["decrypt"], &place[..]].concat(),
        sealed.stdout.as_bytes(),
    );
    assert_eq!((opened.code, opened.stdout.as_str()), (0, "123-45-6789"));
    for elsewhere in [
        ["--column", "clinic.patients.ssn", "--bind", "43"],
        ["--column", "clinic.patients.notes", "--bind", "42"],
    ] {
        let refused = desk.rekey(
            &[&["decrypt"], &elsewhere[..]].concat(),
            sealed.stdout.as_bytes(),
        );
        assert_ne!(refused.code, 0);
        assert_eq!(refused.stdout, "");
    }
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[test]
fn the_operator_is_the_account_that_the_system_knows_whatever_the_environment_says() {
    let id = Command::new("id").arg("-un").output().unwrap();
    let account = String::from_utf8(id.stdout).unwrap();
    let expected = format!("os:{}@", account.trim());
    for environment in [&[][..], &[("USER", "mallory"), ("LOGNAME", "mallory")]] {
        let desk = Desk::new();
        // As `env -i` does it.
        let run = |arguments: &[&str]| {
            let mut command = desk.command(arguments);
            command
                .env_clear()
                .env("REKEY_STATE_DIR", desk.file("state"));
            command.envs(environment.iter().copied()).output().unwrap()
        };
        assert!(run(&["init"]).status.success());
        let listed = run(&["--output", "json", "audit", "list"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        for entry in listed["entries"].as_array().unwrap() {
            let principal = entry["principal"].as_str().unwrap();
            assert!(principal.starts_with(&expected), "{principal}");
        }
    }
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let desk = Desk::initialised();
    let keyring = desk.rekey(&["rotate", "ghost"], b"");
    assert_eq!(keyring.code, 2);
    assert!(
        keyring.stderr.contains("ghost") && keyring.stderr.contains("phi"),
        "{}",
        keyring.stderr
    );
    let column = desk.rekey(
        &["encrypt", "--column", "clinic.patients.dob", "--bind", "1"],
        b"x",
    );
    assert_eq!(column.code, 2);
    assert!(
        column.stderr.contains("clinic.patients.ssn"),
        "{}",
        column.stderr
    );
    let nowhere = Desk::new().rekey(&["status"], b"");
    assert_eq!(nowhere.code, 2);
    assert!(nowhere.stderr.contains("rekey init"), "{}", nowhere.stderr);
}

#[test]
fn the_beginning_of_an_id_and_the_word_latest_name_a_rotation() {
    let desk = Desk::initialised();
    assert_eq!(desk.rekey(&["rotate", "phi"], b"").code, 0);
    let works = crate::rotations::waits::Works::start(&desk);
    let ids = || -> Vec<String> {
        let listed = desk.json(&["rotations", "list"]);
        let rotations = listed["rotations"].as_array().unwrap().iter();
        rotations
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let began = std::time::Instant::now();
    while ids().is_empty() {
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
    }
    let id = ids().remove(0);
    for named in ["latest", &id[..8], &id[..13], &id.to_uppercase()] {
        let shown = desk.json(&["rotations", "show", named]);
        assert_eq!(shown["id"], id.as_str(), "{named}");
    }
    drop(works);
    let none = desk.rekey(&["rotations", "show", "ffffff"], b"");
    assert_eq!(none.code, 2, "{}", none.stderr);
    assert!(
        none.stderr
            .contains("no rotation whose id begins with ffffff"),
        "{}",
        none.stderr
    );
    for arguments in [
        ["quarantine", "show", "ffffff"],
        ["dead-letters", "retry", "ffffff"],
    ] {
        let none = desk.rekey(&arguments, b"");
        assert!(
            none.code == 2 && none.stderr.contains("begins with ffffff"),
            "{}",
            none.stderr
        );
    }
    let short = desk.rekey(&["rotations", "show", "fffff"], b"");
    assert!(
        short.code == 2 && short.stderr.contains("first 6 digits"),
        "{}",
        short.stderr
    );
}

#[test]
fn a_file_that_a_url_names_relatively_is_shown_whole() {
    let desk = Desk::new();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let relative = config.replace(desk.file("source.db").to_str().unwrap(), "gone/source.db");
    let relative = relative
        .replace("sqlite:///gone", "sqlite:gone")
        .replace("sqlite://gone", "sqlite:gone");
    desk.configure(&format!(
        "[store]\nurl = \"sqlite:of/store.db\"\n{relative}"
    ));
    let here = fs::canonicalize(desk.file(".")).unwrap();
    let says = |answer: &Answer, file: &str| {
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(said.contains(here.join(file).to_str().unwrap()), "{said}");
    };
    says(&desk.rekey(&["status"], b""), "of/store.db");
    fs::create_dir(desk.file("of")).unwrap();
    let init = desk.rekey(&["init"], b"");
    says(&init, "gone/source.db");
    assert!(
        init.stderr.contains("no such file") && !init.stderr.contains("entity"),
        "{}",
        init.stderr
    );
    says(&desk.rekey(&["status"], b""), "of/store.db");
}

#[test]
fn hostile_events_are_refused_and_change_nothing() {
    let desk = Desk::initialised();
    let canary = "999-88-7777";
    let oversized = format!("{{\"id\":\"{}\"}}", "x".repeat(70_000));
    let internal =
        r#"{"specversion":"1.0","id":"1","source":"/x","type":"rekey.batch.ready.v1","data":{}}"#;
    for event in [canary, "{", "[]", oversized.as_str(), internal] {
        let answer = desk.rekey(&["publish", "-"], event.as_bytes());
        assert_eq!(answer.code, 4, "{}", answer.stderr);
        assert!(!answer.stderr.contains(canary), "{}", answer.stderr);
    }
    let status = desk.status();
    assert_eq!(
        (&status["outbox"], &status["dead_letters"]),
        (&Value::from(0), &Value::from(0))
    );
}

#[test]
fn a_dead_letter_from_outside_is_not_sent_again_and_once_dismissed_asks_for_nobody() {
    let desk = Desk::initialised();
    desk.on_store(
        r#"INSERT INTO dead_letter (id, queue, type, event, error, died_at)
           VALUES (zeroblob(16), 'requests', 'rekey.rotation.requested.v1',
               '{"specversion":"1.0","id":"1","source":"/x","type":"rekey.rotation.requested.v1","data":{"keyring":"phi"}}',
               'given up', '2024-02-29T00:00:00+00:00')"#,
    );
    assert_eq!(desk.rekey(&["status"], b"").code, 3);
    let letters = desk.json(&["dead-letters", "list"]);
    let id = letters["dead_letters"][0]["id"].as_str().unwrap();
    let retried = desk.rekey(&["dead-letters", "retry", id], b"");
    assert_eq!(retried.code, 4, "{}", retried.stderr);
    for said in ["from outside", "dead-letters dismiss"] {
        assert!(retried.stderr.contains(said), "{}", retried.stderr);
    }
    let dismiss = ["dead-letters", "dismiss", id];
    assert_eq!(desk.rekey(&dismiss, b"").code, 2);
    let because = |why| [&dismiss[..], &["--because", why]].concat();
    assert_eq!(desk.rekey(&because(" "), b"").code, 4);
    let dismissed = desk.json(&because("sent by mistake, ticket 7"));
    assert_eq!(dismissed["schema"], "rekey.dead-letter-dismissed/v1");
    desk.assert_needs_workers_only();
    assert_eq!(desk.rekey(&because("again"), b"").code, 4);
    let verified = desk.rekey(&["audit", "verify"], b"");
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn dead_letters_and_quarantine_are_done_with_by_a_filter() {
    let desk = Desk::initialised();
    desk.on_store(
        "INSERT INTO dead_letter (id, queue, type, event, error, died_at)
         SELECT randomblob(16), 'rotator', 'rekey.rotation.due.v1',
             '{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"rekey.rotation.due.v1\",\"data\":{\"rotation\":\"0198c7a0-0000-7000-8000-00000000000' || value || '\"}}',
             'given up: ' || value, '2024-02-29T00:00:00+00:00' FROM json_each('[1, 1, 2, 3]');
         INSERT INTO quarantine (id, rotation_id, column_id, row_key, reason, found_at)
         SELECT randomblob(16), randomblob(16), protected_column.id, 'id ' || value, 'corrupt', '2026-03-29 01:30:00+00:00'
         FROM protected_column, json_each('[1, 2, 3]') WHERE name = 'ssn'",
    );
    let letters = || {
        desk.json(&["dead-letters", "list"])["dead_letters"]
            .as_array()
            .unwrap()
            .len()
    };
    let rotation = "0198c7a0-0000-7000-8000-000000000001";
    let because = ["--because", "ticket 7"];
    for (filter, left) in [
        (&["--rotation", rotation][..], 2),
        (&["--reason", "given up: 3"], 1),
        (&["--reason", "not this"], 1),
        (&["--all"], 0),
    ] {
        let dismiss = [&["dead-letters", "dismiss"], filter, &because].concat();
        let dismissed = desk.rekey(&dismiss, b"");
        assert_eq!(dismissed.code, 0, "{filter:?}: {}", dismissed.stderr);
        assert_eq!(letters(), left, "{filter:?}");
    }
    let none = desk.rekey(&["dead-letters", "dismiss", "--because", "x"], b"");
    assert_eq!(none.code, 2, "nothing is dismissed by leaving the ids out");

    let values = || {
        desk.json(&["quarantine", "list"])["values"]
            .as_array()
            .unwrap()
            .len()
    };
    for (filter, left) in [
        (&["--reason", "missing-key"][..], 3),
        (&["--column", "clinic.patients.notes"], 3),
        (
            &["--column", "clinic.patients.ssn", "--reason", "corrupt"],
            0,
        ),
        (&["--all"], 0),
    ] {
        let resolve = [&["quarantine", "resolve"], filter, &because].concat();
        let resolved = desk.rekey(&resolve, b"");
        assert_eq!(resolved.code, 0, "{filter:?}: {}", resolved.stderr);
        assert_eq!(values(), left, "{filter:?}");
    }
    desk.assert_needs_workers_only();
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_with_every_error() {
    let desk = Desk::new();
    desk.configure("[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\nrotate = \"often\"\nconcurrency = 0\ncolour = 1\n");
    let answer = desk.rekey(&["init"], b"");
    assert_eq!(answer.code, 2);
    for key in ["rotate", "concurrency", "colour"] {
        assert!(answer.stderr.contains(key), "{key}: {}", answer.stderr);
    }
    assert!(!desk.file("state").exists(), "nothing was made");
}

#[test]
fn a_column_or_a_source_that_is_not_there_changes_nothing() {
    let desk = Desk::initialised();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&config.replace("notes =", "diary ="));
    let column = desk.rekey(&["apply"], b"");
    assert_eq!(column.code, 2, "{}", column.stderr);
    assert!(
        column.stderr.contains("diary") && column.stderr.contains("notes"),
        "{}",
        column.stderr
    );
    desk.configure(&config.replace("source.db", "gone.db"));
    let source = desk.rekey(&["apply"], b"");
    assert_eq!(source.code, 5, "{}", source.stderr);
    assert!(source.stderr.contains("gone.db"), "{}", source.stderr);
    desk.configure(&config);
    let again = desk.rekey(&["apply", "--plan"], b"");
    assert_eq!(again.code, 0, "{}", again.stderr);
}

#[test]
fn no_keyring_is_made_for_a_column_that_another_has() {
    let desk = Desk::initialised();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let other = config.replacen("ssn = { keyring = \"phi\"", "ssn = { keyring = \"phi2\"", 1);
    assert_ne!(other, config);
    desk.configure(&format!(
        "{other}\n[[keyring]]\nname = \"phi2\"\npurpose = \"PHI\"\n"
    ));
    for arguments in [&["apply", "--plan"][..], &["apply"]] {
        let refused = desk.rekey(arguments, b"");
        assert_eq!(refused.code, 4, "{arguments:?}: {}", refused.stderr);
        let said = &refused.stderr;
        assert!(
            said.contains("clinic.patients.ssn") && said.contains("phi2"),
            "{said}"
        );
    }
    // Nor for one that was renamed in the file alone.
    let moved = other.replacen("name = \"patients\"", "name = \"persons\"", 1);
    assert_ne!(moved, other);
    for text in [&other, &moved] {
        desk.configure(&format!(
            "{text}\n[[keyring]]\nname = \"phi2\"\npurpose = \"PHI\"\n"
        ));
        for arguments in [&["apply", "--plan"][..], &["apply"], &["init"]] {
            let refused = desk.rekey(arguments, b"");
            assert_eq!(refused.code, 4, "{arguments:?}: {}", refused.stderr);
        }
    }
    let keys = desk.rekey(&["keys", "list"], b"").stdout;
    assert!(!keys.contains("phi2"), "{keys}");
}

#[test]
fn a_master_key_that_others_can_read_is_refused() {
    let desk = Desk::initialised();
    fs::set_permissions(
        desk.file("state/master.key"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let answer = desk.rekey(&["rotate", "phi"], b"");
    assert_ne!(answer.code, 0);
    assert!(
        answer.stderr.contains("master.key") && answer.stderr.contains("600"),
        "{}",
        answer.stderr
    );
}

#[test]
fn a_new_master_key_is_made_and_every_key_wrapped_anew_under_it() {
    let desk = Desk::initialised();
    let place = ["--column", "clinic.patients.ssn", "--bind", "42"];
    let sealed = desk.rekey(&[&["encrypt"], &place[..]].concat(), b"123-45-6789");
    let before = desk.json(&["master", "show"]);
    assert_eq!(before["schema"], "rekey.master-key/v1");
    assert_eq!(
        (&before["provider"], &before["state"]),
        (&"local".into(), &"enabled".into())
    );
    assert_eq!(before["keys"][0]["keys"], 8);
    let rotation = desk.json(&["master", "rotate"]);
    assert_eq!(rotation["schema"], "rekey.master-rotation/v1");
    assert_eq!(
        (&rotation["made"], &rotation["rewrapped"]),
        (&true.into(), &8.into())
    );
    let after = desk.json(&["master", "show"]);
    assert_eq!(after["master_key"], rotation["master_key"]);
    assert_ne!(after["master_key"], before["master_key"]);
    let under = serde_json::json!([
        { "master_key": after["master_key"], "current": true, "keys": 8 }
    ]);
    assert_eq!(after["keys"], under);
    let opened = desk.rekey(
        &[&["decrypt"], &place[..]].concat(),
        sealed.stdout.as_bytes(),
    );
    assert_eq!((opened.code, opened.stdout.as_str()), (0, "123-45-6789"));
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[test]
fn with_a_master_key_in_aws_everything_is_the_same_and_init_again_changes_nothing() {
    let desk = Desk::with_aws();
    let json = |arguments: &[&str]| -> Value {
        let arguments = [&["--output", "json"], arguments].concat();
        let answer = desk.aws(&arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{stderr}");
        serde_json::from_slice(&answer.stdout).unwrap()
    };
    let init = || desk.aws(&["init"]).output().unwrap();
    assert!(init().status.success());
    let before = json(&["master", "show"]);
    assert!(init().status.success());
    assert_eq!(json(&["master", "show"]), before);
    assert_eq!(before["provider"], "aws");
    let keys = before["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["keys"]), (1, &8.into()), "{before}");
    let rotation = json(&["master", "rotate"]);
    assert_eq!(
        (&rotation["made"], &rotation["rewrapped"]),
        (&true.into(), &8.into())
    );
    let after = json(&["master", "show"]);
    assert_eq!(after["master_key"], rotation["master_key"]);
    assert_ne!(after["master_key"], before["master_key"]);
    assert!(desk.aws(&["audit", "verify"]).status().unwrap().success());
    assert!(!desk.file("state/master.key").exists());
}

#[test]
fn a_master_key_in_aws_that_has_no_name_is_a_wrong_configuration() {
    let desk = Desk::with_aws();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    desk.configure(&config.replace("alias/", "phi master key "));
    let answer = desk.aws(&["init"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("kms.master_key"), "{stderr}");
}

#[test]
fn a_second_worker_process_is_refused_while_the_command_line_works_beside_the_first() {
    let desk = Desk::initialised();
    let mut first = desk.command(&["up"]).spawn().unwrap();
    let started = std::time::Instant::now();
    let second = loop {
        let mut second = desk.command(&["up"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        if second.try_wait().unwrap().is_some() {
            break second.wait_with_output().unwrap();
        }
        // It was first; then the other was refused, and is the one to look at.
        if first.try_wait().unwrap().is_some() {
            std::mem::swap(&mut first, &mut second);
            break second.wait_with_output().unwrap();
        }
        second.kill().unwrap();
        second.wait().unwrap();
        assert!(started.elapsed().as_secs() < 30, "both ran");
    };
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("PostgreSQL"));
    desk.assert_needs_workers_only();
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn usage_errors_exit_with_two() {
    let desk = Desk::new();
    for arguments in [
        &["frobnicate"][..],
        &["rotate"],
        &["--output", "xml", "status"],
    ] {
        assert_eq!(desk.rekey(arguments, b"").code, 2, "{arguments:?}");
    }
}

#[test]
fn completions_and_manual_pages_need_no_deployment_and_no_good_configuration() {
    let desk = Desk::new();
    desk.configure("this is [ no configuration");
    let bash = desk.rekey(&["completions", "bash"], b"");
    assert_eq!(bash.code, 0, "{}", bash.stderr);
    assert!(bash.stdout.contains("complete -F"), "{}", bash.stdout);
    let pages = desk.rekey(&["man", "pages"], b"");
    assert_eq!(pages.code, 0, "{}", pages.stderr);
    let page = fs::read_to_string(desk.file("pages").join("rekey-rotations-pause.1")).unwrap();
    assert!(page.contains(".TH rekey-rotations-pause 1"), "{page}");
    let nowhere = desk.rekey(&["man", "rekey.toml/pages"], b"");
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("may write to"),
        "{}",
        nowhere.stderr
    );
}

#[test]
fn a_passphrase_seals_the_master_key_and_is_needed_from_then_on() {
    let desk = Desk::initialised();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let private = |name: &str, text: &str| {
        fs::write(desk.file(name), text).unwrap();
        fs::set_permissions(desk.file(name), fs::Permissions::from_mode(0o600)).unwrap();
        desk.file(name).display().to_string()
    };
    let words = private("words", "correct horse battery staple\n");
    let place = ["--column", "clinic.patients.ssn", "--bind", "42"];
    let sealed = desk.rekey(&[&["encrypt"], &place[..]].concat(), b"123-45-6789");
    let says = desk.rekey(&["master", "passphrase", "--new-file", &words], b"");
    assert_eq!(says.code, 0, "{}", says.stderr);
    let file = fs::read_to_string(desk.file("state").join("master.key")).unwrap();
    assert!(file.contains("argon2id"), "{file}");

    let open = || {
        desk.rekey(
            &[&["decrypt"], &place[..]].concat(),
            sealed.stdout.as_bytes(),
        )
    };
    let refused = open();
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("kms.passphrase_file"),
        "{}",
        refused.stderr
    );
    desk.configure(&format!("[kms]\npassphrase_file = \"{words}\"\n{config}"));
    assert_eq!(open().stdout, "123-45-6789");
    assert_eq!(desk.rekey(&["rotate", "phi"], b"").code, 0);

    let none = desk.rekey(&["master", "passphrase", "--none"], b"");
    assert_eq!(none.code, 0, "{}", none.stderr);
    let open_file = open();
    assert!(
        open_file.stderr.contains("master passphrase"),
        "{}",
        open_file.stderr
    );
    desk.configure(&config);
    assert_eq!(open().stdout, "123-45-6789");
    assert_eq!(desk.rekey(&["master", "passphrase"], b"").code, 2);
    assert_eq!(desk.rekey(&["audit", "verify"], b"").code, 0);
}

#[test]
fn a_passphrase_file_that_is_missing_is_no_missing_master_key() {
    let desk = Desk::initialised();
    let config = fs::read_to_string(desk.file("rekey.toml")).unwrap();
    let nowhere = desk.file("nowhere");
    desk.configure(&format!("[kms]\npassphrase_file = {nowhere:?}\n{config}"));
    let refused = desk.rekey(&["rotate", "phi"], b"");
    assert_ne!(refused.code, 0);
    assert!(
        refused
            .stderr
            .contains("the passphrase's file is not found"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("restore it"), "{}", refused.stderr);
}

#[test]
fn without_a_file_there_is_a_keyring_phi() {
    let desk = Desk::new();
    fs::remove_file(desk.file("rekey.toml")).unwrap();
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    assert_eq!(desk.status()["keyrings"].as_array().unwrap().len(), 4);
    assert_eq!(desk.rekey(&["rotate", "phi"], b"").code, 0);
}

#[test]
fn a_retry_of_quarantine_says_what_tries_it_again_and_nothing_to_try_is_no_failure() {
    let desk = Desk::initialised();
    let nothing = desk.json(&["quarantine", "retry"]);
    assert_eq!(nothing["schema"], "rekey.quarantine-retry/v1");
    assert_eq!(nothing["retries"], serde_json::json!([]));
    let says = desk.rekey(&["quarantine", "retry", "--keyring", "phi"], b"");
    assert_eq!(says.code, 0, "{}", says.stderr);
    assert!(
        says.stdout.contains("nothing to try again"),
        "{}",
        says.stdout
    );
    let id = "0198c7a0-0000-7000-8000-000000000000";
    for (arguments, expected) in [
        (vec!["--keyring", "ghost"], "phi"),
        (
            vec!["--column", "clinic.patients.sssn"],
            "clinic.patients.ssn",
        ),
        (vec!["--column", "ssn"], "SOURCE.TABLE.COLUMN"),
        (vec![id], id),
        (vec![id, "--keyring", "phi"], "cannot be used with"),
    ] {
        let arguments = [vec!["quarantine", "retry"], arguments].concat();
        let wrong = desk.rekey(&arguments, b"");
        assert_eq!(wrong.code, 2, "{arguments:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(expected), "{}", wrong.stderr);
    }

    desk.on_store(
        "INSERT INTO quarantine (id, rotation_id, column_id, row_key, reason, found_at)
         SELECT randomblob(16), randomblob(16), id, 'id 4', 'corrupt', '2026-03-29 01:30:00+00:00'
         FROM protected_column WHERE name = 'ssn'",
    );
    let column = ["quarantine", "retry", "--column", "clinic.patients.ssn"];
    let retried = desk.json(&column);
    let retry = &retried["retries"][0];
    assert_eq!(
        (&retry["outcome"], &retry["kind"], &retry["values"]),
        (&"started".into(), &"sweep".into(), &1.into())
    );
    let sweep = retry["rotation"].as_str().unwrap();
    let shown = desk.json(&["rotations", "show", sweep]);
    assert_eq!(
        (&shown["kind"], &shown["columns"][0], &shown["target"]),
        (
            &"sweep".into(),
            &"clinic.patients.ssn".into(),
            &"phi/1".into()
        )
    );
    for command in [
        &["rotations", "show", sweep][..],
        &["rotations", "list"],
        &["status"],
    ] {
        let page = desk.rekey(command, b"");
        assert!(
            page.stdout.contains("sweep"),
            "{command:?}: {}",
            page.stdout
        );
    }
    let audit = desk.rekey(&["audit", "list"], b"");
    assert!(audit.stdout.contains("sweep.started"), "{}", audit.stdout);
    let plan = desk.rekey(&["rotate", "phi", "--plan"], b"");
    let supersedes = format!("a request would supersede sweep {sweep}");
    assert!(plan.stdout.contains(&supersedes), "{}", plan.stdout);
}

#[test]
fn nothing_is_in_quarantine_and_what_is_not_there_cannot_be_resolved() {
    let desk = Desk::initialised();
    let list = desk.json(&["quarantine", "list", "--reason", "corrupt"]);
    assert_eq!(list["schema"], "rekey.quarantine/v1");
    assert_eq!(list["values"], serde_json::json!([]));
    let id = "0198c7a0-0000-7000-8000-000000000000";
    let nothing = desk.rekey(&["quarantine", "resolve", id, "--because", "x"], b"");
    assert_eq!(nothing.code, 2);
    assert!(nothing.stderr.contains(id), "{}", nothing.stderr);
    assert_eq!(
        desk.rekey(&["quarantine", "list", "--reason", "bad"], b"")
            .code,
        2
    );
}

#[test]
fn a_census_names_what_holds_nothing_and_what_cannot_be_counted() {
    let desk = Desk::initialised();
    let ssn = json!("clinic.patients.ssn");
    let counted = desk.json(&["census"]);
    let empty = counted["empty"].as_array().unwrap();
    assert!(empty.contains(&ssn), "{counted}");
    assert_eq!(counted["not_counted"], json!([]));
    desk.on_source("DROP TABLE patients");
    let answer = desk.rekey(&["--output", "json", "census"], b"");
    assert_eq!(answer.code, 2, "{}", answer.stderr);
    let counted: Value = serde_json::from_str(&answer.stdout).unwrap();
    let failed = &counted["not_counted"][0];
    assert!(
        failed["columns"].as_array().unwrap().contains(&ssn),
        "{counted}"
    );
    assert!(
        failed["reason"].as_str().unwrap().contains("no table"),
        "{counted}"
    );
    // The audit log is counted all the same.
    assert_ne!(counted["counts"], json!([]), "{counted}");
    let told = desk.rekey(&["census"], b"");
    assert!(
        told.stderr.contains("not counted: clinic.patients"),
        "{}",
        told.stderr
    );
}
