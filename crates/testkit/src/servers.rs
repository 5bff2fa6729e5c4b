//! Servers of one's own, which may be killed and started again on their data: in containers where Docker answers,
//! else from this machine's programs.
//!
//! Their functions wait, and block the thread meanwhile.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    containers, local,
    process::{answers, free_port, speaks_http, wait_until},
    running::{Answers, Running, SETTINGS, apart, runtime},
    tls::Identity,
};
/// `admin:admin`, as HTTP says it.
const ADMIN: &str = "YWRtaW46YWRtaW4=";

/// PostgreSQL on a port of the loopback interface.
pub struct PrivatePostgres {
    server: Box<dyn Running>,
    port: u16,
}

impl PrivatePostgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// The same with settings of its own, such as `full_page_writes=on`.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`].
    pub fn start_with(settings: &'static [&'static str]) -> Result<Self, String> {
        let port = free_port()?;
        let answers = Answers {
            port,
            at: |at| apart(|| runtime().block_on(PgConnection::connect(&url(at))).is_ok()),
        };
        let server: Box<dyn Running> = if containers::are_possible() {
            Box::new(containers::postgres(port, answers, settings)?)
        } else {
            Box::new(local::Postgres::start(answers, settings)?)
        };
        Ok(Self { server, port })
    }

    /// Its URL, as a superuser.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Kills the server, as `kill -9` does. Its data stays.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port and data.
    ///
    /// # Errors
    /// What the server said.
    pub fn restart(&mut self) -> Result<(), String> {
        self.server.restart()
    }

    /// Lets it speak TLS, as who this is.
    ///
    /// # Errors
    /// What the server said.
    pub fn secure(&self, identity: &Identity) -> Result<(), String> {
        for (name, pem) in identity.files() {
            let lines = format!("SELECT regexp_split_to_table('{pem}', '\n')");
            self.run(&format!(
                "COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'"
            ))?;
        }
        self.run("ALTER SYSTEM SET ssl = on")?;
        self.run("SELECT pg_reload_conf()")?;
        // Read by the server some time after it was told to, and by sessions from then on.
        let is_on = "DO 'BEGIN ASSERT current_setting(''ssl'') = ''on''; END'";
        wait_until(|| self.run(is_on).is_ok(), || true, String::new)
    }

    /// Starts it again as a standby: it can be read, and written no more.
    ///
    /// # Errors
    /// What the server said.
    pub fn become_standby(&mut self) -> Result<(), String> {
        self.run("COPY (SELECT) TO PROGRAM 'cat > standby.signal'")?;
        self.restart()
    }

    /// A standby that follows it, beside it on its machine.
    ///
    /// # Errors
    /// What failed.
    pub fn follow(&self) -> Result<Standby<'_>, String> {
        let standby = Standby {
            primary: self,
            port: free_port()?,
        };
        let inside = "current_setting('port')";
        let copy = format!(
            "pg_basebackup -R -c fast -N -D ../standby -d \"host=127.0.0.1 port=' || {inside} || ' user=postgres\""
        );
        // It may allow no fewer connections than its primary.
        let settings = SETTINGS.map(|setting| format!("-c {setting}")).join(" ");
        let start = format!(
            "pg_ctl -D ../standby -w -l ../standby.log -o \"{settings} -p {} -c listen_addresses=127.0.0.1 -k \\\"\\\"\" start",
            standby.port
        );
        self.program(&format!("{copy} && {start}"))?;
        Ok(standby)
    }

    /// Runs a program of PostgreSQL's on the server's machine, in its data directory. The text is the
    /// inside of an SQL literal.
    fn program(&self, command: &str) -> Result<(), String> {
        self.run(&format!(
            "DO $do$ DECLARE bin text; BEGIN
                SELECT setting INTO bin FROM pg_config WHERE name = 'BINDIR';
                EXECUTE format('COPY (SELECT) TO PROGRAM %L',
                    'export PATH=' || bin || ':$PATH PGPASSWORD=postgres; {{ {command}; }} </dev/null >../program.log 2>&1');
            END $do$"
        ))
    }

    fn run(&self, sql: &str) -> Result<(), String> {
        let url = self.url();
        let run = async || {
            let mut session = PgConnection::connect(&url).await?;
            let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session);
            done.await
        };
        let done = apart(|| runtime().block_on(run()));
        done.map(drop).map_err(|error| error.to_string())
    }
}

/// A standby of a server. Dropped, it is stopped.
pub struct Standby<'a> {
    primary: &'a PrivatePostgres,
    port: u16,
}

impl Standby<'_> {
    /// Goes on receiving and replays nothing, so that it lags.
    ///
    /// # Errors
    /// What the server said.
    pub fn pause_replay(&self) -> Result<(), String> {
        self.ask("pg_wal_replay_pause()")
    }

    /// Replays again.
    ///
    /// # Errors
    /// What the server said.
    pub fn resume_replay(&self) -> Result<(), String> {
        self.ask("pg_wal_replay_resume()")
    }

    fn ask(&self, function: &str) -> Result<(), String> {
        let port = self.port;
        let place = format!("-h 127.0.0.1 -p {port} -U postgres");
        let ask = format!("psql {place} -c \"SELECT {function}\"");
        self.primary.program(&ask)
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        // Whoever made it has failed already, if this fails.
        let _ = self
            .primary
            .program("pg_ctl -D ../standby -m immediate stop");
    }
}

fn url(port: u16) -> String {
    format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres")
}

/// RabbitMQ with its management API on ports of the loopback interface.
pub struct PrivateRabbitMq {
    node: Box<dyn Running>,
    /// Of AMQP, of AMQP over TLS, of the management API.
    ports: [u16; 3],
}

impl PrivateRabbitMq {
    /// Makes a node and starts it.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        Self::start_as(None)
    }

    /// The same, and it speaks TLS too, as who this is.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start_secure(identity: &Identity) -> Result<Self, String> {
        Self::start_as(Some(identity))
    }

    fn start_as(identity: Option<&Identity>) -> Result<Self, String> {
        let ports = [free_port()?, free_port()?, free_port()?];
        let answers = Answers {
            port: ports[2],
            at: |port| answers(port, "/api/overview", Some(ADMIN)),
        };
        let node: Box<dyn Running> = if containers::are_possible() {
            Box::new(containers::rabbitmq(ports, identity, answers)?)
        } else {
            Box::new(local::RabbitMq::start(ports, identity, answers)?)
        };
        Ok(Self { node, ports })
    }

    /// Its URL, as an administrator.
    pub fn amqp_url(&self) -> String {
        format!("amqp://admin:admin@127.0.0.1:{}/%2f", self.ports[0])
    }

    /// Its URL over TLS, as an administrator; `localhost` is who it says it is.
    pub fn amqps_url(&self) -> String {
        format!("amqps://admin:admin@localhost:{}/%2f", self.ports[1])
    }

    /// The URL of its management API.
    pub fn api_url(&self) -> String {
        format!("http://admin:admin@127.0.0.1:{}", self.ports[2])
    }

    /// Kills the node, as `kill -9` does. Its data stays.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts it again on the same ports and data.
    ///
    /// # Errors
    /// What the node said.
    pub fn restart(&mut self) -> Result<(), String> {
        self.node.restart()
    }
}

/// An emulator of AWS KMS and S3 on a port of the loopback interface.
pub struct PrivateKms {
    _emulator: Box<dyn Running>,
    port: u16,
}

impl PrivateKms {
    /// Starts one.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        let port = free_port()?;
        let answers = Answers {
            port,
            at: |at| answers(at, "/moto-api/", None),
        };
        let emulator: Box<dyn Running> = if containers::are_possible() {
            Box::new(containers::kms(port, answers)?)
        } else {
            Box::new(local::Kms::start(answers)?)
        };
        Ok(Self {
            _emulator: emulator,
            port,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// An emulator of Azure's blobs on a port of the loopback interface.
pub struct PrivateAzure {
    _emulator: Box<dyn Running>,
    port: u16,
}

impl PrivateAzure {
    /// The one account that it has.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// The account's key, which everybody knows.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Starts one.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        let port = free_port()?;
        let answers = Answers {
            port,
            at: speaks_http,
        };
        let emulator: Box<dyn Running> = if containers::are_possible() {
            Box::new(containers::azure(port, answers)?)
        } else {
            Box::new(local::Azure::start(answers)?)
        };
        Ok(Self {
            _emulator: emulator,
            port,
        })
    }

    /// Its URL, with the account.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, Self::ACCOUNT)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_server_comes_back_with_its_data() {
        let mut server = PrivatePostgres::start().unwrap();
        let mut session = PgConnection::connect(&server.url()).await.unwrap();
        let table = "CREATE TABLE kept AS SELECT 7 AS value";
        sqlx::raw_sql(table).execute(&mut session).await.unwrap();
        server.kill();
        assert!(sqlx::query("SELECT 1").execute(&mut session).await.is_err());
        server.restart().unwrap();
        let mut again = PgConnection::connect(&server.url()).await.unwrap();
        let row = sqlx::query("SELECT value FROM kept");
        let row = row.fetch_one(&mut again).await.unwrap();
        assert_eq!(row.get::<i32, _>(0), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_node_comes_back_with_its_data() {
        let mut node = PrivateRabbitMq::start().unwrap();
        let http = crate::tls::http_client();
        let queue = format!("{}/api/queues/%2f/kept", node.api_url());
        let durable = serde_json::json!({ "durable": true });
        let made = http.put(&queue).json(&durable).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        node.kill();
        assert!(http.get(&queue).send().await.is_err());
        node.restart().unwrap();
        let kept = http.get(&queue).send().await.unwrap();
        assert!(kept.status().is_success(), "{kept:?}");
    }
}
