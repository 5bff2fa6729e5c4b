//! Wide rows: a process moves them in bounded memory, however many there are.

use std::process::Command;

use rekey_domain::{Bind, BindValue, RotationState};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_testkit::program;
use rekey_tests::{process::Process, roles::UP, support::until};
use sqlx::{AssertSqlSafe, Postgres, Sqlite};

use super::clinic::{Clinic, Database, Kind, column, keyring, table};

const MIB: usize = 1 << 20;

/// Many values of 5 MB.
const WIDE: Shape = Shape {
    columns: 1,
    bytes: 5_000_000,
    rows: 16,
    text: false,
};
/// The same as base64 text.
const TEXT: Shape = Shape {
    rows: 10,
    text: true,
    ..WIDE
};
/// Ten values of 500 KB a row.
const MANY: Shape = Shape {
    columns: 10,
    bytes: 500_000,
    rows: 8,
    text: false,
};
/// Of so many rows one is read back; which key each is under, the rotation counts.
const SEEN: usize = 6;
/// What all workers in one process may use at most: about 125 MiB on PostgreSQL, 170 MiB on SQLite, of
/// which 40 MiB are there before the first row. As text a value is 6.7 MB and its bytes beside. Two
/// batches at once, or ten rows of 5 MB and what becomes of them, are more.
const MOST: u64 = 220 << 20;

#[derive(Clone, Copy)]
struct Shape {
    columns: usize,
    bytes: usize,
    rows: i64,
    /// Whether its values are base64.
    text: bool,
}

impl Shape {
    fn names(self) -> Vec<String> {
        (0..self.columns).map(|at| format!("v{at}")).collect()
    }

    /// As many rows in a block as in any table.
    fn create(self, name: &str, kind: Kind) -> String {
        let of_type = if self.text { "TEXT" } else { "BYTEA" };
        let columns = self
            .names()
            .iter()
            .map(|name| format!(", {name} {of_type}"))
            .collect::<String>();
        let mut sql = format!("CREATE TABLE {name} (n INT PRIMARY KEY, pad TEXT {columns});");
        if kind == Kind::Postgres {
            for name_of in self.names() {
                sql += &format!("ALTER TABLE {name} ALTER {name_of} SET STORAGE EXTERNAL;");
            }
        }
        sql
    }

    /// What a value says.
    fn plain(self, n: i64, column: usize) -> Vec<u8> {
        let mut plain = format!("{column} of {n};")
            .into_bytes()
            .repeat(self.bytes / 5);
        plain.truncate(self.bytes);
        plain
    }

    async fn fill(self, clinic: &Clinic, table: &str) {
        for n in 1..=self.rows {
            let mut values = Vec::new();
            for (at, name) in self.names().iter().enumerate() {
                let name = format!("clinic.{table}.{name}");
                let (bind, plain) = ([BindValue::Integer(n)], self.plain(n, at));
                let sealed = clinic.services.client.encrypt(&name, &bind, &plain);
                values.push(sealed.await.unwrap());
            }
            self.insert(clinic, table, n, values).await;
        }
    }

    async fn assert_says_the_same(self, clinic: &Clinic, table: &str) {
        clinic.services.client.keyring_changed(&keyring("phi"));
        for n in (1..=self.rows).step_by(SEEN) {
            for (at, name) in self.names().iter().enumerate() {
                let value = self
                    .value(clinic, &format!("SELECT {name} FROM {table} WHERE n = {n}"))
                    .await;
                let name = format!("clinic.{table}.{name}");
                let opened = clinic
                    .services
                    .client
                    .decrypt(&name, &[BindValue::Integer(n)], &value)
                    .await;
                assert!(*opened.unwrap() == self.plain(n, at), "{name} of {n}");
            }
        }
    }

    async fn insert(self, clinic: &Clinic, table: &str, n: i64, values: Vec<Vec<u8>>) {
        let pad = "x".repeat(900);
        match &clinic.database {
            Database::Postgres(_, pool) => {
                let places: String = (0..values.len())
                    .map(|at| format!(", ${}", at + 3))
                    .collect();
                let insert = AssertSqlSafe(format!("INSERT INTO {table} VALUES ($1, $2{places})"));
                let n = i32::try_from(n).unwrap();
                let mut insert = sqlx::query(insert).bind(n).bind(pad);
                for value in values {
                    insert = match self.text {
                        true => insert.bind(encode_base64(&value)),
                        false => insert.bind(value),
                    };
                }
                insert.execute(pool).await.unwrap();
            }
            Database::Sqlite(_, pool) => {
                let places = ", ?".repeat(values.len());
                let insert = AssertSqlSafe(format!("INSERT INTO {table} VALUES (?, ?{places})"));
                let mut insert = sqlx::query(insert).bind(n).bind(pad);
                for value in values {
                    insert = match self.text {
                        true => insert.bind(encode_base64(&value)),
                        false => insert.bind(value),
                    };
                }
                insert.execute(pool).await.unwrap();
            }
        }
    }

    async fn value(self, clinic: &Clinic, sql: &str) -> Vec<u8> {
        if self.text {
            return decode_base64(&scalar::<String>(clinic, sql).await).unwrap();
        }
        scalar(clinic, sql).await
    }
}

async fn scalar<T>(clinic: &Clinic, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
    T: for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    let sql = AssertSqlSafe(sql);
    match &clinic.database {
        Database::Postgres(_, pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        Database::Sqlite(_, pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
    }
}

/// Every worker, in a process of its own.
fn up(clinic: &Clinic) -> Process {
    let mut command = Command::new(program("rekey"));
    let state = clinic.disks.state("");
    command
        .arg("--state-dir")
        .arg(&state)
        .arg("up")
        .current_dir(&state);
    // The store keeps no password; the file says it.
    let file = format!(
        "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"\nurl = \"{}\"\n\
         [[source.table]]\nname = \"wide\"\ncolumns = {{ v0 = {{ keyring = \"phi\", bind = \"row\" }} }}\n",
        clinic.database.url_as(UP)
    );
    std::fs::write(clinic.disks.state("rekey.toml"), file).unwrap();
    Process::spawn(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what it took is worth knowing")]
async fn wide_rows_are_moved_in_bounded_memory() {
    for kind in Kind::BOTH {
        let shapes = [("wide", WIDE), ("text", TEXT), ("many", MANY)];
        let sql = shapes.map(|(name, shape)| shape.create(name, kind));
        let mut clinic = Clinic::on(kind, &sql.concat()).await;
        let columns = |shape: Shape| {
            let names = shape.names();
            names.iter().map(|name| column(name, Bind::Row)).collect()
        };
        let tables = shapes.map(|(name, shape)| table(name, name, columns(shape)));
        clinic.policy.concurrency = 4;
        clinic.protect(tables.into()).await;
        for (name, shape) in shapes {
            shape.fill(&clinic, name).await;
        }
        let process = up(&clinic);
        until("it to work", async || {
            let said = process.said();
            said.iter()
                .any(|line| line.contains("running"))
                .then_some(())
        })
        .await;
        let idle = process.peak_memory();
        clinic.ask("phi").await;
        // Moving takes as long as people wait for a whole rotation elsewhere; verifying opens all once more.
        let moved = [
            RotationState::Grace,
            RotationState::Verifying,
            RotationState::Completed,
        ];
        until("all values to be moved", async || {
            let state = clinic.latest("phi").await?.state;
            moved.contains(&state).then_some(())
        })
        .await;
        let view = clinic.reaches("phi", RotationState::Completed).await;
        let peak = process.peak_memory();
        process.terminate().await;
        println!(
            "{kind:?}: {} MiB, idle {} MiB",
            peak / MIB as u64,
            idle / MIB as u64
        );
        assert_eq!((view.rows, view.quarantined), (16 + 10 + 8, 0));
        for (name, shape) in shapes {
            shape.assert_says_the_same(&clinic, name).await;
        }
        assert!(peak < MOST, "{kind:?}: {} MiB", peak / MIB as u64);
    }
}
