//! A pooler before a PostgreSQL server, with the settings that it has by itself.

use crate::{local, process::free_port};

/// When a pooler hands a server's connection to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

impl PoolMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// pgbouncer, from this machine's programs. Dropped, it is gone.
pub struct Pooler {
    _program: local::Pooler,
    url: String,
}

impl Pooler {
    /// A pooler of so many connections before the database of this URL, `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// What failed and what to install.
    ///
    /// # Panics
    /// When the URL is not of that form.
    pub fn before(url: &str, mode: PoolMode, connections: u32) -> Result<Self, String> {
        let form = "the URL is postgres://user:password@host:port/database";
        let rest = url.strip_prefix("postgres://").expect(form);
        let (login, place) = rest.split_once('@').expect(form);
        let (server, database) = place.split_once('/').expect(form);
        let port = free_port()?;
        let (user, password) = login.split_once(':').expect(form);
        let (host, of_server) = server.rsplit_once(':').expect(form);
        let configuration = format!(
            "[databases]\n* = host={host} port={of_server} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {}\ndefault_pool_size = {connections}\n",
            mode.name()
        );
        Ok(Self {
            _program: local::Pooler::start(port, &configuration)?,
            url: format!("postgres://{login}@127.0.0.1:{port}/{database}"),
        })
    }

    /// The URL that leads through it.
    pub fn url(&self) -> &str {
        &self.url
    }
}
