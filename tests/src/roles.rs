//! Databases of tests, and the roles that reach them: each has what `rekey grants` prints, and none is a superuser.

use std::{collections::HashMap, path::PathBuf, str::FromStr, sync::Arc};

use rekey_deployment::{Places, rights};
use rekey_operations::Services;
use rekey_runtime::config::{Config, KmsConfig};
use rekey_testkit::{TestDatabase, services};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};

/// Owns the store's database and migrates it; no program of ours runs as it otherwise.
pub const OWNER: &str = "owner";
/// Owns the clinic's database, and makes and writes its tables.
pub const APPLICATION: &str = "application";
/// Whoever runs the command line.
pub const OPERATOR: &str = "operator";
/// `rekey up`, and the workers that run in a test's own process: what each of them has, and no more.
pub const UP: &str = "up";

/// Each of them.
pub const ALL: [&str; 9] = [
    OWNER,
    APPLICATION,
    OPERATOR,
    "scheduler",
    "rotator",
    "re_encryptor",
    "incident_notifier",
    "backup_verifier",
    UP,
];
const PASSWORD: &str = "only-in-tests";
/// What a clinic's database is called where a test has one source.
const CLINIC: &str = "clinic";

/// The server of all tests.
pub fn server() -> String {
    services::url(services::POSTGRES)
}

/// Roles of one test, removed at its end.
pub struct Roles {
    prefix: String,
    servers: Vec<String>,
}

/// A database of a test's own. It gives no URL but those of the roles: its superuser is for the test's
/// own hands, in connections that no program of ours is given.
pub struct Database {
    database: TestDatabase,
    /// After the database, so that nothing depends on them any more.
    roles: Arc<Roles>,
}

impl Database {
    /// A database on the server of all tests, with roles of its own.
    pub async fn create(owner: &str) -> Self {
        Self::on(&server(), owner).await
    }

    /// The same on another server.
    pub async fn on(server: &str, owner: &str) -> Self {
        Self::with(&Roles::create(&[server]).await, server, owner).await
    }

    /// A database that these roles reach.
    pub async fn with(roles: &Arc<Roles>, server: &str, owner: &str) -> Self {
        let database = TestDatabase::on(server).await;
        let owner = roles.name(owner);
        let own = format!("ALTER DATABASE {} OWNER TO {owner}", database.name());
        let created = Self {
            database,
            roles: roles.clone(),
        };
        run(&created.administrator().await, &own).await;
        created
    }

    pub fn name(&self) -> &str {
        self.database.name()
    }

    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Its URL, as one of the roles.
    pub fn url_as(&self, role: &str) -> String {
        self.database.url_as(&self.roles.name(role), PASSWORD)
    }

    /// Connections to it, as one of the roles.
    pub async fn pool_as(&self, role: &str) -> PgPool {
        PgPool::connect(&self.url_as(role)).await.unwrap()
    }

    /// Connections to it, as the superuser.
    pub async fn administrator(&self) -> PgPool {
        self.database.pool().await
    }

    /// The same deployment, reaching the source `clinic`, which this is, as one of the roles. The store
    /// keeps its URL without a password.
    pub fn services_as(&self, role: &str, services: &Services) -> Services {
        let urls = HashMap::from([(CLINIC.to_owned(), self.url_as(role).into())]);
        services.clone().with_source_urls(urls)
    }

    /// Gives everyone what `rekey grants` prints now for the source `clinic`, which this is.
    pub async fn grant(&self, services: &Services) {
        let printed = printed(services, self.roles()).await;
        self.give_source(CLINIC, &printed).await;
    }

    /// Gives everyone what `rekey grants` prints for it as the source of this name.
    pub async fn give_source(&self, name: &str, printed: &[Value]) {
        for grants in printed {
            let sources = grants["sources"].as_array().unwrap();
            for source in sources.iter().filter(|one| one["source"] == name) {
                self.run_all(&source["sql"]).await;
                self.run_all(&source["as_administrator"]).await;
            }
        }
    }

    /// Gives everyone what `rekey grants` prints for it as the store.
    pub async fn give_store(&self, printed: &[Value]) {
        for grants in printed {
            self.run_all(&grants["store"]).await;
        }
    }

    async fn run_all(&self, statements: &Value) {
        let administrator = self.administrator().await;
        // Programs from before print fewer kinds.
        for statement in statements.as_array().into_iter().flatten() {
            run(&administrator, statement.as_str().unwrap()).await;
        }
    }
}

/// Runs statements that have to succeed.
pub async fn run(pool: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool);
    done.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The usual configuration with a master key at AWS: only then policies are printed.
pub fn at_aws() -> Config {
    Config {
        kms: KmsConfig::Aws {
            master_key: "alias/rekey".to_owned(),
            endpoint_url: None,
            region: None,
        },
        ..Config::load(None).unwrap()
    }
}

/// What `rekey grants` prints for these roles.
pub async fn printed(services: &Services, roles: &Roles) -> Vec<Value> {
    let config = at_aws();
    let places = Places::resolve(Some(PathBuf::from("nowhere")), config).unwrap();
    let all = rights(services, &places, &roles.prefix, "/").await.unwrap();
    let all = all.iter().map(|one| serde_json::to_value(one).unwrap());
    all.collect()
}

impl Roles {
    /// Makes them at each of these servers.
    pub async fn create(servers: &[&str]) -> Arc<Self> {
        let mut servers: Vec<_> = servers.iter().map(|server| (*server).to_owned()).collect();
        servers.dedup();
        let prefix = format!("test_{:016x}_", rand::random::<u64>());
        let roles = Self { prefix, servers };
        let create = ALL.map(|role| {
            let role = roles.name(role);
            format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';")
        });
        let workers = [
            "scheduler",
            "rotator",
            "re_encryptor",
            "incident_notifier",
            "backup_verifier",
        ];
        let workers = workers.map(|role| roles.name(role));
        let union = format!("GRANT {} TO {};", workers.join(", "), roles.name(UP));
        roles.execute(create.concat() + &union).await.unwrap();
        Arc::new(roles)
    }

    /// As `rekey grants --role-prefix` takes it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A role's name at the servers.
    pub fn name(&self, role: &str) -> String {
        assert!(ALL.contains(&role), "no role {role}");
        format!("{}{role}", self.prefix)
    }

    async fn execute(&self, sql: String) -> sqlx::Result<()> {
        for server in &self.servers {
            let options = PgConnectOptions::from_str(server)?;
            let mut connection = PgConnection::connect_with(&options).await?;
            let done = sqlx::raw_sql(AssertSqlSafe(sql.clone()));
            done.execute(&mut connection).await?;
        }
        Ok(())
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        let all = ALL.map(|role| self.name(role)).join(", ");
        // Rights on parameters of the server outlive its databases.
        let drop = format!("DROP OWNED BY {all}; DROP ROLE {all};");
        let roles = Self {
            prefix: self.prefix.clone(),
            servers: std::mem::take(&mut self.servers),
        };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let _ = runtime.block_on(roles.execute(drop));
            std::mem::forget(roles);
        });
        let _ = dropping.join();
    }
}
