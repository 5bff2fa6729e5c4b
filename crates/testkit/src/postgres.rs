//! A PostgreSQL database of a test's own, gone with it.

use std::str::FromStr;

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::services;

/// An empty database. Dropped, it is removed, whoever is still connected to it.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: String,
}

impl TestDatabase {
    /// Makes a database on the tests' server.
    ///
    /// # Panics
    /// When there is no server, or it does not let us.
    pub async fn create() -> Self {
        Self::on(&services::url(services::POSTGRES)).await
    }

    /// Makes a database on the server of this URL.
    ///
    /// # Panics
    /// When the server does not let us.
    pub async fn on(server: &str) -> Self {
        let server = server.to_owned();
        let name = format!("rekey_test_{:016x}", rand::random::<u64>());
        let version = create(&server, &name)
            .await
            .expect("the tests' PostgreSQL makes a database");
        let created = Self { name, server };
        if version < 150_000 {
            // Everybody may create in `public` there, and a store refuses to live in it.
            let close = "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned();
            let closed = execute(&created.url(), close).await;
            closed.expect("the tests' role is a superuser");
        }
        created
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, as a superuser.
    pub fn url(&self) -> String {
        let (server, _) = self
            .server
            .rsplit_once('/')
            .expect("the server's URL names a database");
        format!("{server}/{}", self.name)
    }

    /// Its URL, as another role.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        let url = self.url();
        let (_, place) = url.split_once('@').expect("the server's URL names a user");
        format!("postgres://{role}:{password}@{place}")
    }

    /// Connections to it, as a superuser.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn pool(&self) -> PgPool {
        PgPool::connect(&self.url())
            .await
            .expect("the database was just made")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test's runtime may be ending; this one is its own.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = runtime.map(|runtime| runtime.block_on(execute(&server, sql)));
        });
        let _ = dropping.join();
    }
}

/// Makes a database; gives the server's version.
async fn create(server: &str, name: &str) -> sqlx::Result<i32> {
    let mut connection = connect(server).await?;
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut connection).await?;
    let version = "SELECT current_setting('server_version_num')::int";
    let version = sqlx::query_scalar(version)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(version)
}

async fn execute(server: &str, sql: String) -> sqlx::Result<()> {
    let mut connection = connect(server).await?;
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await
}

async fn connect(server: &str) -> sqlx::Result<PgConnection> {
    PgConnection::connect_with(&PgConnectOptions::from_str(server)?).await
}
