//! A clinic of any tables on either kind of database, taken through a whole rotation and looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use rekey_domain::{
    Algorithm, BackupPolicy, Bind, BindValue, Found, KeyringName, KeyringPolicy, Limits, OnUpdate,
    Purpose, RotationReason, RotationState, TextEncoding,
};
use rekey_envelope::{DataKey, associated_data, decode_base64, encode_base64};
use rekey_operations::{
    Change, ColumnConfig, Desired, KeyringConfig, OperationError, RotationView, Services,
    SourceConfig, TableConfig, apply, census, init, key_views, rotate, rotation_views,
};
use rekey_store::columns::{self, Protected};
use sqlx::{AssertSqlSafe, Column, PgPool, Row, SqlitePool, TypeInfo, ValueRef};

use rekey_tests::{
    roles::{self, APPLICATION, OPERATOR, UP},
    support::{Disks, Engine, open, operator, services_on, short, until, url},
};

/// The kinds of database that tables lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Postgres, Self::Sqlite];
}

/// With connections of the application, which made its tables and owns them.
pub enum Database {
    Postgres(roles::Database, PgPool),
    Sqlite(String, SqlitePool),
}

/// A deployment with the keyrings `phi` and `other`, and a database that has what the test made there.
pub struct Clinic {
    pub disks: Disks,
    /// The command line's.
    pub services: Services,
    /// The workers', which all run in one process and share a role.
    pub workers: Services,
    pub algorithm: Algorithm,
    /// Columns that the database computes from protected ones.
    pub computed: Vec<&'static str>,
    pub database: Database,
    /// As whom the operator applies.
    pub url: String,
    pub policy: KeyringPolicy,
    pub limits: Limits,
    tables: Vec<TableConfig>,
    /// Columns that may be NULL.
    nullable: BTreeSet<(String, String)>,
    written: Mutex<BTreeMap<(String, i64), Values>>,
}

/// What the application knows of a row.
pub type Values = Vec<(String, BindValue)>;
/// A row as text, column by column.
pub type Dumped = BTreeMap<String, Option<String>>;

/// A table to protect; its name in `rekey.toml`, and in its database.
pub fn table(name: &str, relation: &str, columns: Vec<ColumnConfig>) -> TableConfig {
    TableConfig {
        name: name.to_owned(),
        relation: relation.to_owned(),
        on_update: OnUpdate::default(),
        columns,
    }
}

pub fn column(name: &str, bind: Bind) -> ColumnConfig {
    ColumnConfig {
        name: name.to_owned(),
        keyring: keyring("phi"),
        bind,
        column_id: None,
    }
}

pub fn listed(columns: &[&str]) -> Bind {
    Bind::Columns(columns.iter().map(|name| (*name).to_owned()).collect())
}

pub fn keyring(name: &str) -> KeyringName {
    name.parse().unwrap()
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What the value of a column says; each fifth says nothing.
pub fn plain(column: &str, n: i64) -> Vec<u8> {
    let times = usize::try_from(n % 5).unwrap();
    format!("{column} of {n} ").repeat(times).into_bytes()
}

impl Clinic {
    /// An empty clinic whose tables `sql` makes, in words of both kinds of database.
    pub async fn on(kind: Kind, sql: &str) -> Self {
        let disks = Disks::new();
        let database = match kind {
            Kind::Postgres => {
                let database = roles::Database::create(APPLICATION).await;
                let pool = database.pool_as(APPLICATION).await;
                Database::Postgres(database, pool)
            }
            Kind::Sqlite => {
                let file = disks.clinic("source.db");
                Database::Sqlite(url(file.clone(), "rw"), open(file, true).await)
            }
        };
        let services = services_on(&disks, &[]).await;
        let clinic = Self {
            services: database.services_as(OPERATOR, &services),
            workers: database.services_as(UP, &services),
            disks,
            algorithm: Algorithm::default(),
            computed: Vec::new(),
            url: database.url_as(OPERATOR),
            policy: KeyringPolicy {
                batch_rows: 10,
                retry_attempts: 2,
                ..short()
            },
            limits: Limits::default(),
            database,
            tables: Vec::new(),
            nullable: BTreeSet::new(),
            written: Mutex::default(),
        };
        clinic.execute(sql).await;
        let desired = clinic.desired();
        init(&clinic.services, &desired, &operator()).await.unwrap();
        clinic
    }

    /// What `rekey.toml` would say.
    pub fn desired(&self) -> Desired {
        let phi = |name| KeyringConfig {
            name: keyring(name),
            purpose: Purpose::Phi,
            algorithm: self.algorithm,
            policy: self.policy.clone(),
            backup: None,
        };
        let clinic = SourceConfig {
            name: "clinic".to_owned(),
            url: self.url.clone().into(),
            limits: self.limits.clone(),
            tables: self.tables.clone(),
        };
        Desired {
            backup: BackupPolicy::Off,
            keyrings: vec![
                Desired::audit_keyring(),
                Desired::signing_keyring(),
                phi("phi"),
                phi("other"),
            ],
            sources: vec![clinic],
            ..Desired::default()
        }
    }

    /// Protects these tables, and gives everyone their rights.
    pub async fn protect(&mut self, tables: Vec<TableConfig>) {
        self.try_protect(tables).await.unwrap();
        self.grant().await;
        self.nullable.clear();
        let source = self.database.url_as(OPERATOR);
        let source = rekey_sources::open(&source).await.unwrap();
        for table in &self.tables {
            let shape = source.describe(&table.relation).await.unwrap();
            let columns = shape.columns.into_iter();
            let nullable = columns.filter(|column| !column.not_null);
            self.nullable
                .extend(nullable.map(|column| (table.name.clone(), column.name)));
        }
    }

    /// What is protected.
    pub fn tables(&self) -> &[TableConfig] {
        &self.tables
    }

    pub async fn try_protect(
        &mut self,
        tables: Vec<TableConfig>,
    ) -> Result<Vec<Change>, OperationError> {
        self.tables = tables;
        apply(&self.services, &self.desired(), &operator()).await
    }

    /// Gives the roles what is printed for them; parts of tables are of it.
    pub async fn grant(&self) {
        if let Database::Postgres(database, _) = &self.database {
            database.grant(&self.services).await;
        }
    }

    /// Why these tables are refused.
    pub async fn refusal(&mut self, tables: Vec<TableConfig>) -> String {
        let refused = self.try_protect(tables).await;
        refused.unwrap_err().to_string()
    }

    pub async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// As the administrator of a database on PostgreSQL.
    pub async fn administer(&self, sql: &str) {
        roles::run(&self.administrator().await, sql).await;
    }

    /// Connections of that one.
    pub async fn administrator(&self) -> PgPool {
        let Database::Postgres(database, _) = &self.database else {
            panic!("SQLite has no administrator");
        };
        database.administrator().await
    }

    /// The first column of the rows of a query, as text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.database.rows(sql).await.into_iter();
        rows.map(|row| row.into_iter().next().unwrap().1.unwrap())
            .collect()
    }

    pub async fn columns_of(&self, table: &str) -> Vec<Protected> {
        let mut columns = columns::all(self.services.store.db()).await.unwrap();
        columns.retain(|column| column.spec.name.table == table);
        columns
    }

    /// Inserts rows of these numbers as an application does: with a value in every protected column,
    /// but NULL in those of each seventh row that may be.
    pub async fn fill<'a>(
        &self,
        table: &str,
        numbers: impl IntoIterator<Item = i64>,
        values: impl Fn(i64) -> Vec<(&'a str, BindValue)>,
    ) {
        let relation = self.relation(table).to_owned();
        self.fill_part(&relation, table, numbers, values).await;
    }

    /// The same into what is a part of the table.
    pub async fn fill_part<'a>(
        &self,
        relation: &str,
        table: &str,
        numbers: impl IntoIterator<Item = i64>,
        values: impl Fn(i64) -> Vec<(&'a str, BindValue)>,
    ) {
        let row = |n: i64| {
            let values = values(n).into_iter().chain([("n", n.into())]);
            let values = values.map(|(name, value)| (name.to_owned(), value));
            (n, values.collect())
        };
        let rows: Vec<_> = numbers.into_iter().map(row).collect();
        if rows.is_empty() {
            return;
        }
        self.insert_all(relation, table, rows, None).await;
    }

    /// Inserts rows of the same columns in one statement; where a key is given, under that one.
    pub async fn insert_all(
        &self,
        relation: &str,
        table: &str,
        rows: Vec<(i64, Values)>,
        under: Option<&DataKey>,
    ) {
        let protected = self.columns_of(table).await;
        let names = rows[0].1.iter().map(|(name, _)| quoted(name));
        let columns = protected.iter().map(|one| quoted(&one.spec.name.column));
        let names = Vec::from_iter(names.chain(columns)).join(", ");
        let mut all = Vec::new();
        for (n, values) in &rows {
            let literal = |(_, value): &(String, BindValue)| self.database.literal(value);
            let mut literals: Vec<_> = values.iter().map(literal).collect();
            for column in &protected {
                let name = &column.spec.name;
                let may_be_null = self
                    .nullable
                    .contains(&(table.to_owned(), name.column.clone()));
                literals.push(if n % 7 == 0 && may_be_null {
                    "NULL".to_owned()
                } else {
                    self.sealed(column, values, *n, under).await
                });
            }
            all.push(format!("({})", literals.join(", ")));
        }
        let (into, all) = (self.database.in_sql(relation), all.join(", "));
        self.execute(&format!("INSERT INTO {into} ({names}) VALUES {all}"))
            .await;
        let rows = rows.into_iter();
        let rows = rows.map(|(n, values)| ((table.to_owned(), n), values));
        self.written.lock().unwrap().extend(rows);
    }

    /// The value of a column in row `n`, as a literal.
    async fn sealed(
        &self,
        column: &Protected,
        values: &Values,
        n: i64,
        under: Option<&DataKey>,
    ) -> String {
        let name = &column.spec.name;
        let (binds, plain) = (binds(column, values), plain(&name.column, n));
        let sealed = match under {
            None => {
                let client = &self.services.client;
                client
                    .encrypt(&name.to_string(), &binds, &plain)
                    .await
                    .unwrap()
            }
            Some(key) => {
                let place = associated_data(&column.spec.column_id, &binds);
                key.encrypt(&plain, &place).unwrap()
            }
        };
        self.database.literal(&match column.spec.encoding {
            TextEncoding::Binary => BindValue::Bytes(sealed),
            TextEncoding::Base64 => BindValue::Text(encode_base64(&sealed)),
        })
    }

    fn relation(&self, table: &str) -> &str {
        let mut tables = self.tables.iter();
        &tables.find(|one| one.name == table).unwrap().relation
    }

    /// Every row of every table, by table and number.
    pub async fn dump(&self) -> BTreeMap<(String, i64), Dumped> {
        let mut all = BTreeMap::new();
        for table in &self.tables {
            let from = self.database.in_sql(&table.relation);
            let rows = self.database.rows(&format!("SELECT * FROM {from}")).await;
            for row in rows {
                let n = row["n"].as_deref().unwrap().parse().unwrap();
                let twice = all.insert((table.name.clone(), n), row);
                assert_eq!(twice, None, "{} has two rows {n}", table.name);
            }
        }
        all
    }

    /// Rotates `phi` with workers of this process, and looks at everything.
    pub async fn rotates(&self) -> RotationView {
        let before = self.dump().await;
        let engine = Engine::start(&self.workers);
        self.ask("phi").await;
        let view = self.completes("phi").await;
        engine.stop().await;
        self.assert_moved("phi", &before, &view).await;
        view
    }

    pub async fn ask(&self, name: &str) {
        let reason = RotationReason::Request;
        let asked = rotate(&self.services, &keyring(name), reason, &operator()).await;
        asked.unwrap();
    }

    pub async fn completes(&self, keyring: &str) -> RotationView {
        let view = self.reaches(keyring, RotationState::Completed).await;
        assert_eq!((view.quarantined, &view.failure), (0, &None));
        view
    }

    /// The keyring's latest rotation.
    pub async fn latest(&self, keyring: &str) -> Option<RotationView> {
        let views = rotation_views(&self.services, &operator()).await.unwrap();
        views.into_iter().find(|view| view.keyring == keyring)
    }

    pub async fn reaches(&self, keyring: &str, state: RotationState) -> RotationView {
        until(&format!("{keyring} to be {state}"), async || {
            let view = self.latest(keyring).await?;
            let failed = view.state == RotationState::Failed && state != RotationState::Failed;
            assert!(!failed, "{:?}", view.failure);
            assert_eq!(view.paused_because, None);
            (view.state == state).then_some(view)
        })
        .await
    }

    /// All values of the keyring are under the new key and say what they said, the others are as they
    /// were, to the byte; and the certificate says so.
    pub async fn assert_moved(
        &self,
        keyring: &str,
        before: &BTreeMap<(String, i64), Dumped>,
        view: &RotationView,
    ) {
        self.services.client.keyring_changed(&self::keyring("phi"));
        let after = self.dump().await;
        let places = |rows: &BTreeMap<(String, i64), Dumped>| rows.keys().cloned().collect();
        let (rows, expected): (BTreeSet<_>, BTreeSet<_>) = (places(&after), places(before));
        assert_eq!(rows, expected, "no row is lost, and none is new");
        let target = view.target.as_ref().unwrap().to_string();
        for table in &self.tables {
            let columns = self.columns_of(&table.name).await;
            let moves = |column: &&Protected| column.spec.keyring.as_str() == keyring;
            for (place, was) in before.iter().filter(|(place, _)| place.0 == table.name) {
                for (name, is) in &after[place] {
                    let protected = columns.iter().filter(moves);
                    let mut protected = protected.filter(|one| one.spec.name.column == *name);
                    match protected.next() {
                        Some(column) => {
                            self.assert_opens(column, place, &was[name], is).await;
                        }
                        None if self.computed.contains(&name.as_str()) => {}
                        None => assert_eq!(*is, was[name], "{place:?} {name}"),
                    }
                }
            }
            for column in columns.iter().filter(moves) {
                let name = column.spec.name.to_string();
                let of_table = after.iter().filter(|(place, _)| place.0 == table.name);
                let held = of_table
                    .filter(|(_, row)| row[&column.spec.name.column].is_some())
                    .count();
                self.assert_counted(&name, held as u64, &target, view).await;
            }
        }
    }

    async fn assert_opens(
        &self,
        column: &Protected,
        place: &(String, i64),
        was: &Option<String>,
        is: &Option<String>,
    ) {
        match (was, is) {
            (Some(was), Some(is)) => {
                assert_ne!(was, is, "{} of {place:?}", column.spec.name);
                self.assert_says(column, place, is).await;
            }
            _ => assert_eq!(was, is, "{} of {place:?}", column.spec.name),
        }
    }

    /// A value as a dump has it says what was written there.
    pub async fn assert_says(&self, column: &Protected, (table, n): &(String, i64), is: &str) {
        let name = &column.spec.name;
        let sealed = match column.spec.encoding {
            TextEncoding::Binary => bytes(is),
            TextEncoding::Base64 => decode_base64(is).unwrap(),
        };
        let binds = binds(column, &self.written.lock().unwrap()[&(table.clone(), *n)]);
        let client = &self.services.client;
        let opened = client.decrypt(&name.to_string(), &binds, &sealed).await;
        assert_eq!(*opened.unwrap(), plain(&name.column, *n), "{name} of {n}");
    }

    /// Both a census and the certificate find all values of the column under the target.
    async fn assert_counted(&self, column: &str, values: u64, target: &str, view: &RotationView) {
        let keys = key_views(&self.services, &operator()).await.unwrap();
        let target_key = keys.iter().find(|view| view.key.to_string() == target);
        let target_key = Found::Key(target_key.unwrap().key_id);
        let counted = census(&self.services, &operator())
            .await
            .unwrap()
            .into_iter();
        let counted = counted.filter(|row| row.column.to_string() == column);
        let counted: Vec<_> = counted.map(|row| (row.found, row.rows)).collect();
        let expected = (values > 0).then_some((target_key, values));
        assert_eq!(counted, Vec::from_iter(expected), "{column}");
        let certificate = view.certificate.as_ref().unwrap();
        let lines = certificate["census_after"].as_array().unwrap().iter();
        let lines = lines.filter(|line| line["column"] == column);
        let lines: Vec<_> = lines
            .map(|line| {
                (
                    line["under"].as_str().unwrap(),
                    line["rows"].as_u64().unwrap(),
                )
            })
            .collect();
        // One without values has a line all the same.
        assert_eq!(lines, [(target, values)], "{column}");
    }
}

/// What a column's value is bound to in a row.
fn binds(column: &Protected, values: &Values) -> Vec<BindValue> {
    let value = |bind: &String| {
        let mut values = values.iter();
        let found = values.find(|(name, _)| name == bind);
        found
            .unwrap_or_else(|| panic!("no value of {bind}"))
            .1
            .clone()
    };
    column.spec.bind_columns.iter().map(value).collect()
}

/// Bytes as a dump has them.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix("\\x").unwrap().as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

impl Database {
    /// Its URL, as one of the roles; a file has none.
    pub fn url_as(&self, role: &str) -> String {
        match self {
            Self::Postgres(database, _) => database.url_as(role),
            Self::Sqlite(url, _) => url.clone(),
        }
    }

    fn services_as(&self, role: &str, services: &Services) -> Services {
        match self {
            Self::Postgres(database, _) => database.services_as(role, services),
            Self::Sqlite(..) => services.clone(),
        }
    }

    /// A relation of `rekey.toml` in a statement: PostgreSQL reads it as it stands, SQLite takes all
    /// of it for the name.
    fn in_sql(&self, relation: &str) -> String {
        match self {
            Self::Postgres(..) => relation.to_owned(),
            Self::Sqlite(..) => quoted(relation),
        }
    }

    fn literal(&self, value: &BindValue) -> String {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match (value, self) {
            (BindValue::Integer(number), _) => number.to_string(),
            (BindValue::Uuid(bytes), _) => text(&uuid::Uuid::from_bytes(*bytes).to_string()),
            (BindValue::Text(value), _) => text(value),
            (BindValue::Bytes(bytes), Self::Postgres(..)) => format!("'\\x{}'", hex::encode(bytes)),
            (BindValue::Bytes(bytes), Self::Sqlite(..)) => format!("x'{}'", hex::encode(bytes)),
        }
    }

    async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql);
        let done = match self {
            Self::Postgres(_, pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
            Self::Sqlite(_, pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
        };
        done.unwrap();
    }

    /// Rows as text, bytes as `\x` and their digits; with the partition that each lies in.
    async fn rows(&self, sql: &str) -> Vec<Dumped> {
        match self {
            Self::Postgres(_, pool) => {
                // The simple protocol answers in text.
                let rows = sqlx::raw_sql(AssertSqlSafe(sql))
                    .fetch_all(pool)
                    .await
                    .unwrap();
                let text = |row: &sqlx::postgres::PgRow, at| {
                    let value = row.try_get_raw(at).unwrap();
                    (!value.is_null()).then(|| value.as_str().unwrap().to_owned())
                };
                let named = |row: &sqlx::postgres::PgRow| {
                    let columns = row.columns().iter();
                    columns
                        .map(|column| (column.name().to_owned(), text(row, column.ordinal())))
                        .collect()
                };
                rows.iter().map(named).collect()
            }
            Self::Sqlite(_, pool) => {
                let rows = sqlx::query(AssertSqlSafe(sql))
                    .fetch_all(pool)
                    .await
                    .unwrap();
                let named = |row: &sqlx::sqlite::SqliteRow| {
                    let columns = row.columns().iter();
                    columns
                        .map(|column| {
                            (column.name().to_owned(), sqlite_text(row, column.ordinal()))
                        })
                        .collect()
                };
                rows.iter().map(named).collect()
            }
        }
    }
}

fn sqlite_text(row: &sqlx::sqlite::SqliteRow, at: usize) -> Option<String> {
    let value = row.try_get_raw(at).unwrap();
    if value.is_null() {
        return None;
    }
    let class = value.type_info().name().to_owned();
    match class.as_str() {
        "BLOB" => Some(format!(
            "\\x{}",
            hex::encode(row.get_unchecked::<&[u8], _>(at))
        )),
        _ => Some(row.get_unchecked::<String, _>(at)),
    }
}
