//! Tables and columns that are renamed: refused with the one command that helps, and no value is lost.

use rekey_tests::roles::{APPLICATION, Database, run};
use std::process::Child;

use serde_json::Value;

use crate::command_line::{Answer, Desk};

const ROWS: usize = 6;

/// A clinic whose patients stand under `phi/1`, bound to their id.
pub struct Clinic {
    pub desk: Desk,
    database: Option<Database>,
}

impl Clinic {
    async fn both() -> [Self; 2] {
        [
            Self::on(None).await,
            Self::on(Some(Database::create(APPLICATION).await)).await,
        ]
    }

    pub async fn on(database: Option<Database>) -> Self {
        let clinic = Self {
            desk: Desk::new(),
            database,
        };
        let bytes = clinic.by_kind("BLOB", "bytea");
        clinic.sql("DROP TABLE IF EXISTS patients").await;
        let table =
            format!("CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn {bytes}, notes {bytes})");
        clinic.sql(&table).await;
        clinic.declare("patients", "patients", &["ssn", "notes"]);
        clinic.done(&["init"]);
        for id in 1..=ROWS {
            let [ssn, notes] = ["ssn", "notes"].map(|name| clinic.sealed(name, id));
            let insert = format!("INSERT INTO patients VALUES ({id}, {ssn}, {notes})");
            clinic.sql(&insert).await;
        }
        clinic
    }

    fn by_kind<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        match self.database {
            None => sqlite,
            Some(_) => postgres,
        }
    }

    async fn sql(&self, sql: &str) {
        match &self.database {
            None => self.desk.on_source(sql),
            Some(database) => run(&database.pool_as(APPLICATION).await, sql).await,
        }
    }

    fn declare(&self, name: &str, relation: &str, columns: &[&str]) {
        let url = match &self.database {
            None => format!("sqlite://{}", self.desk.file("source.db").display()),
            Some(database) => database.url_as(APPLICATION),
        };
        let column = |name: &&str| format!("{name} = {{ keyring = \"phi\", bind = \"row\" }}");
        let columns: Vec<_> = columns.iter().map(column).collect();
        self.desk.configure(&format!(
            "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\nkeyset_max_age = \"1s\"\ngrace_period = \"1s\"\n\
             encrypt_lease = \"1s\"\nsweep_every = \"1s\"\nbatch_rows = 1\nconcurrency = 1\n\
             [[source]]\nname = \"clinic\"\nurl = \"{url}\"\n\
             [[source.table]]\nname = \"{name}\"\nrelation = \"{relation}\"\ncolumns = {{ {} }}\n",
            columns.join(", ")
        ));
    }

    fn sealed(&self, column: &str, id: usize) -> String {
        let (column, id) = (format!("clinic.patients.{column}"), id.to_string());
        let sealed = self.desk.rekey(
            &["encrypt", "--column", &column, "--bind", &id],
            id.as_bytes(),
        );
        assert_eq!(sealed.code, 0, "{}", sealed.stderr);
        let bytes = rekey_envelope::decode_base64(sealed.stdout.trim()).unwrap();
        let hex = hex::encode(bytes);
        self.by_kind("X'#'", "'\\x#'").replace('#', &hex)
    }

    pub fn rekey(&self, arguments: &[&str]) -> Answer {
        self.desk.rekey(arguments, b"")
    }

    pub fn done(&self, arguments: &[&str]) -> Answer {
        let answer = self.rekey(arguments);
        assert_eq!(
            answer.code, 0,
            "{arguments:?}: {}{}",
            answer.stdout, answer.stderr
        );
        answer
    }

    /// The file is refused with exactly this command, which then makes it right.
    fn assert_renamed_by(&self, old: &str, new: &str) {
        let command = format!("rekey columns rename {old} {new}");
        for refused in [&["apply"][..], &["apply", "--plan"], &["init"]] {
            let refused = self.rekey(refused);
            assert_eq!(refused.code, 4, "{}", refused.stderr);
            assert!(refused.stderr.contains(&command), "{}", refused.stderr);
        }
        let renamed = self.done(&["columns", "rename", old, new]);
        assert!(renamed.stdout.contains(new), "{}", renamed.stdout);
        let audit = self.done(&["audit", "list"]);
        assert!(audit.stdout.contains("column.renamed"), "{}", audit.stdout);
        let applied = self.done(&["apply"]);
        assert!(
            applied.stdout.contains("nothing to change"),
            "{}",
            applied.stdout
        );
    }

    pub fn works(&self) -> Works {
        Works(self.desk.command(&["up"]).spawn().unwrap())
    }

    fn assert_all_move(&self) {
        let _works = self.works();
        self.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
        self.assert_nothing_left(&["phi/2"]);
    }

    /// Every value stands under one of these keys, and none is in quarantine.
    pub fn assert_nothing_left(&self, keys: &[&str]) {
        let census = self.done(&["--output", "json", "census"]);
        let census: Value = serde_json::from_str(&census.stdout).unwrap();
        let rows = census["counts"].as_array().unwrap();
        let clinic = rows
            .iter()
            .filter(|row| row["column"].as_str().unwrap().starts_with("clinic."));
        for row in clinic {
            assert!(
                keys.contains(&row["key"].as_str().unwrap_or("-")),
                "{census}"
            );
        }
        let quarantine = self.done(&["--output", "json", "quarantine", "list"]);
        assert!(
            quarantine.stdout.contains("\"values\":[]"),
            "{}",
            quarantine.stdout
        );
    }
}

/// `rekey up`, until it is dropped.
pub struct Works(Child);

impl Drop for Works {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_renamed_with_its_name_in_the_file_keeps_every_value() {
    for clinic in Clinic::both().await {
        clinic.sql("ALTER TABLE patients RENAME TO persons").await;
        clinic.declare("persons", "persons", &["ssn", "notes"]);
        clinic.assert_renamed_by("clinic.patients.notes", "clinic.persons.notes");
        clinic.assert_all_move();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_renamed_in_mid_rotation_is_followed_and_the_rotation_completes() {
    for clinic in Clinic::both().await {
        let works = clinic.works();
        let canary = clinic.rekey(&[
            "rotate",
            "phi",
            "--pause-after",
            "2",
            "--wait",
            "--timeout",
            "60s",
        ]);
        assert_eq!(canary.code, 3, "{}", canary.stderr);
        drop(works);
        clinic
            .sql("ALTER TABLE patients RENAME COLUMN ssn TO social")
            .await;
        let check = clinic.rekey(&["columns", "check"]);
        assert!(
            check
                .stdout
                .contains("rekey columns rename clinic.patients.ssn"),
            "{}",
            check.stdout
        );
        clinic.declare("patients", "patients", &["social", "notes"]);
        clinic.assert_renamed_by("clinic.patients.ssn", "clinic.patients.social");
        let _works = clinic.works();
        let listed = clinic.done(&["--output", "json", "rotations", "list"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        clinic.done(&[
            "rotations",
            "resume",
            listed["rotations"][0]["id"].as_str().unwrap(),
        ]);
        clinic.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
        clinic.assert_nothing_left(&["phi/2", "phi/3"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_declaration_of_a_column_is_refused_across_store_and_file() {
    for clinic in Clinic::both().await {
        clinic.declare("people", "patients", &["ssn"]);
        let refused = clinic.rekey(&["apply"]);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        let command = "rekey columns rename clinic.patients.ssn clinic.people.ssn";
        assert!(refused.stderr.contains(command), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_open_there_or_would_be_left_behind_is_not_renamed() {
    for clinic in Clinic::both().await {
        let rename = |new: &str| clinic.rekey(&["columns", "rename", "clinic.patients.ssn", new]);
        // What it was is still there.
        let left = rename("clinic.patients.notes");
        assert_eq!(left.code, 4, "{}", left.stderr);
        clinic.sql("ALTER TABLE patients RENAME TO persons; CREATE TABLE patients AS SELECT * FROM persons").await;
        clinic.declare("persons", "persons", &["ssn", "notes"]);
        if clinic.database.is_none() {
            let left = rename("clinic.persons.ssn");
            assert_eq!(left.code, 4, "{}", left.stderr);
            assert!(
                left.stderr.contains("of ciphertext in ssn still"),
                "{}",
                left.stderr
            );
        }
        // The rows got other ids, so nothing opens.
        clinic
            .sql("DROP TABLE patients; UPDATE persons SET id = id + 100000")
            .await;
        let other = rename("clinic.persons.ssn");
        assert_eq!(other.code, 4, "{}", other.stderr);
        assert!(
            other.stderr.contains("none of 6 value(s)"),
            "{}",
            other.stderr
        );
        clinic.sql("UPDATE persons SET id = id - 100000").await;
        assert_eq!(rename("clinic.persons.ssn").code, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_another_type_or_other_bind_columns_goes_on_where_its_values_open() {
    let clinic = Clinic::on(Some(Database::create(APPLICATION).await)).await;
    clinic
        .sql(
            "ALTER TABLE patients ALTER ssn TYPE text USING translate(encode(ssn, 'base64'), E'\\n', '');
            ALTER TABLE patients RENAME id TO number",
        )
        .await;
    let refused = clinic.rekey(&["apply"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    for said in ["bind id", "number", "rekey columns rename"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    for name in ["clinic.patients.ssn", "clinic.patients.notes"] {
        clinic.done(&["columns", "rename", name, name]);
    }
    clinic.done(&["apply"]);
    clinic.assert_all_move();
}

/// Their values are good, and open where each table is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_exchanged_their_names_are_known_and_followed_by_their_relations() {
    let database = Database::create(APPLICATION).await;
    let pool = database.pool_as(APPLICATION).await;
    run(
        &pool,
        "CREATE TABLE one (id int PRIMARY KEY, v bytea); CREATE TABLE two (LIKE one INCLUDING ALL)",
    )
    .await;
    let desk = Desk::new();
    let declare = |one: &str, two: &str| {
        let table = |name: &str, relation: &str| {
            let columns = "columns = { v = { keyring = \"phi\", bind = \"row\" } }";
            format!("[[source.table]]\nname = \"{name}\"\nrelation = \"{relation}\"\n{columns}\n")
        };
        desk.configure(&format!(
            "backup = \"off\"\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n\
             [[source]]\nname = \"clinic\"\nurl = \"{}\"\n{}{}",
            database.url_as(APPLICATION),
            table("one", one),
            table("two", two)
        ));
    };
    declare("one", "two");
    assert_eq!(desk.rekey(&["init"], b"").code, 0);
    for name in ["one", "two"] {
        let column = format!("clinic.{name}.v");
        let sealed = desk.rekey(&["encrypt", "--column", &column, "--bind", "1"], b"7");
        let sealed = rekey_envelope::decode_base64(sealed.stdout.trim()).unwrap();
        let sealed = hex::encode(sealed);
        run(
            &pool,
            &format!("INSERT INTO {name} VALUES (1, '\\x{sealed}')"),
        )
        .await;
    }
    run(
        &pool,
        "ALTER TABLE one RENAME TO x; ALTER TABLE two RENAME TO one; ALTER TABLE x RENAME TO two",
    )
    .await;
    let helps = "exchange their relations in rekey.toml";
    for asked in [&["columns", "check"][..], &["rotate", "phi", "--plan"]] {
        let said = desk.rekey(asked, b"");
        assert_eq!(said.code, 3, "{}", said.stderr);
        let is_known = said.stdout.contains("that is public.two.v now");
        assert!(is_known && said.stdout.contains(helps), "{}", said.stdout);
        let as_damage = said.stdout.contains("its bytes were changed");
        assert!(!as_damage, "{}", said.stdout);
    }
    let refused = desk.rekey(&["columns", "rename", "clinic.one.v", "clinic.two.v"], b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains(helps), "{}", refused.stderr);
    declare("two", "one");
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    let checked = desk.rekey(&["columns", "check"], b"");
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
}

/// A rotation names the command for each column that is bound to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_renamed_a_bind_column_is_told_what_to_do_for_each_column_that_is_bound_to_it() {
    for clinic in Clinic::both().await {
        clinic.sql("ALTER TABLE patients RENAME id TO pid").await;
        let works = clinic.works();
        let rotated = clinic.rekey(&["rotate", "phi", "--wait", "--timeout", "60s"]);
        assert_eq!(rotated.code, 3, "{}", rotated.stderr);
        let status = clinic.rekey(&["status"]).stdout;
        let check = clinic.rekey(&["columns", "check"]).stdout;
        for said in [&status, &check] {
            for name in ["clinic.patients.ssn", "clinic.patients.notes"] {
                let command = format!("rekey columns rename {name} {name}");
                assert!(said.contains(&command), "{said}");
            }
        }
        for name in ["clinic.patients.ssn", "clinic.patients.notes"] {
            clinic.done(&["columns", "rename", name, name]);
        }
        clinic.done(&["apply"]);
        let listed = clinic.done(&["--output", "json", "rotations", "list"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        let id = listed["rotations"][0]["id"].as_str().unwrap();
        clinic.done(&["rotations", "resume", id]);
        clinic.done(&["rotate", "phi", "--wait", "--timeout", "60s"]);
        drop(works);
        clinic.assert_nothing_left(&["phi/2", "phi/3"]);
    }
}

/// Base64 as bytes, bytes as text: no rotation could open them, and nobody else loses the key to them either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_in_another_way_is_neither_released_nor_left_behind() {
    for clinic in Clinic::both().await {
        let other = clinic.by_kind("CAST(ssn AS TEXT)", "encode(ssn, 'base64')::bytea");
        clinic
            .sql(&format!("UPDATE patients SET ssn = {other}"))
            .await;
        let refused = clinic.rekey(&["columns", "release", "clinic.patients.ssn"]);
        assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
        let why = "6 value(s) of ciphertext of ours";
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        let refused = clinic.rekey(&[
            "columns",
            "rename",
            "clinic.patients.ssn",
            "clinic.patients.x",
        ]);
        assert_ne!(refused.code, 0, "{}", refused.stdout);

        let bytes = clinic.by_kind("BLOB", "bytea");
        clinic
            .sql(&format!(
                "ALTER TABLE patients RENAME TO old; \
                 CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn {bytes}, notes {bytes})"
            ))
            .await;
        let _works = clinic.works();
        let rotated = clinic.rekey(&["rotate", "phi", "--wait", "--timeout", "20s"]);
        assert_ne!(rotated.code, 0, "{}", rotated.stdout);
        let refused = clinic.rekey(&["apply"]);
        assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
        // Without it, nothing of it is left.
        clinic.sql("DROP TABLE patients; ALTER TABLE old RENAME TO patients; UPDATE patients SET ssn = NULL").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_another_type_whose_values_were_not_converted_is_not_followed() {
    for clinic in Clinic::both().await {
        let other_type = clinic.by_kind(
            "CREATE TABLE n (id INTEGER PRIMARY KEY, ssn TEXT, notes BLOB); INSERT INTO n SELECT * FROM patients; \
             DROP TABLE patients; ALTER TABLE n RENAME TO patients",
            "ALTER TABLE patients ALTER ssn TYPE text USING encode(ssn, 'hex')",
        );
        clinic.sql(other_type).await;
        let name = "clinic.patients.ssn";
        let refused = clinic.rekey(&["columns", "rename", name, name]);
        assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
        for said in ["holds text now and not bytes", "none of 6 value(s) opens"] {
            assert!(refused.stderr.contains(said), "{}", refused.stderr);
        }
        let released = clinic.rekey(&["columns", "release", name]);
        assert_ne!(released.code, 0, "{}{}", released.stdout, released.stderr);
    }
}

/// As many times as the table was copied, its values open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_some_rows_is_not_taken_for_the_table_that_was_renamed() {
    for clinic in Clinic::both().await {
        let bytes = clinic.by_kind("BLOB", "bytea");
        clinic
            .sql(&format!(
                "CREATE TABLE zz AS SELECT * FROM patients; DROP TABLE patients; \
                 CREATE TABLE persons (id INTEGER PRIMARY KEY, ssn {bytes}, notes {bytes}); \
                 INSERT INTO persons SELECT * FROM zz WHERE id = 1"
            ))
            .await;
        clinic.declare("persons", "persons", &["ssn", "notes"]);
        let rename = || {
            let names = ["clinic.patients.ssn", "clinic.persons.ssn"];
            clinic.rekey(&["columns", "rename", names[0], names[1]])
        };
        let refused_for = |place: &str| {
            let refused = rename();
            assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
            assert!(refused.stderr.contains(place), "{}", refused.stderr);
        };
        refused_for(clinic.by_kind("zz.ssn", "\"zz\".ssn"));
        // An empty table of the old name says nothing of where its rows went.
        clinic
            .sql(&format!(
                "CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn {bytes}, notes {bytes})"
            ))
            .await;
        refused_for(clinic.by_kind("zz.ssn", "\"zz\".ssn"));
        clinic.sql("DROP TABLE patients").await;
        if clinic.database.is_some() {
            clinic
                .sql("CREATE TABLE shut (x bytea); REVOKE ALL ON shut FROM CURRENT_USER; DROP TABLE zz")
                .await;
            refused_for("\"shut\".x");
            clinic.sql("DROP TABLE shut").await;
        } else {
            clinic.sql("DROP TABLE zz").await;
        }
        let renamed = rename();
        assert_eq!(renamed.code, 0, "{}", renamed.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_and_all_its_columns_that_are_renamed_at_once_are_followed_one_by_one() {
    for clinic in Clinic::both().await {
        clinic
            .sql(
                "ALTER TABLE patients RENAME TO persons; \
                 ALTER TABLE persons RENAME COLUMN ssn TO social; \
                 ALTER TABLE persons RENAME COLUMN notes TO remarks",
            )
            .await;
        clinic.declare("persons", "persons", &["social", "remarks"]);
        for (old, new) in [
            ("clinic.patients.ssn", "clinic.persons.social"),
            ("clinic.persons.notes", "clinic.persons.remarks"),
        ] {
            clinic.done(&["columns", "rename", old, new]);
        }
        clinic.done(&["apply"]);
        clinic.assert_all_move();
    }
}

/// The same database by a symlink, or by another name of its host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_database_under_two_names_has_no_column_twice() {
    for clinic in Clinic::both().await {
        let config = std::fs::read_to_string(clinic.desk.file("rekey.toml")).unwrap();
        let (keyring, source) = config.split_once("[[source]]").unwrap();
        let two = source.replace("name = \"clinic\"", "name = \"two\"");
        let elsewhere = match clinic.database {
            None => {
                let link = clinic.desk.file("link.db");
                std::os::unix::fs::symlink(clinic.desk.file("source.db"), link).unwrap();
                two.replace("source.db", "link.db")
            }
            Some(_) => two.replace("127.0.0.1", "localhost"),
        };
        assert_ne!(elsewhere, two);
        clinic
            .desk
            .configure(&format!("{config}[[source]]{elsewhere}"));
        let refused = clinic.rekey(&["apply"]);
        assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
        assert!(
            refused.stderr.contains("declare it once"),
            "{}",
            refused.stderr
        );
        // The store knows the other, though the file does not name it any more.
        let only = match clinic.database {
            None => elsewhere,
            Some(_) => two,
        };
        clinic.desk.configure(&format!("{keyring}[[source]]{only}"));
        let refused = clinic.rekey(&["apply"]);
        assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
        let said = "protected as clinic.patients.";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}
