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
        execute(&server, format!("CREATE DATABASE {name}"))
            .await
            .expect("the tests' PostgreSQL makes a database");
        Self { name, server }
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

async fn execute(server: &str, sql: String) -> sqlx::Result<()> {
    let options = PgConnectOptions::from_str(server)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await
}
