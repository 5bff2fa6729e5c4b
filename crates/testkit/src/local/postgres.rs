//! A PostgreSQL server of one's own, which may be killed and started again on its data.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{directory, find_or_install, on_path};
use crate::{
    apt::is_root,
    process::{Service, free_port, run},
};

const OWNER: &str = "postgres";
const PASSWORD: &str = "postgres";
/// Killed processes lose nothing without fsync, only a killed machine does. But a commit is not to
/// return before it is written, as it would with `synchronous_commit=off`.
const SETTINGS: [&str; 5] = [
    "fsync=off",
    "full_page_writes=off",
    "max_connections=300",
    "wal_level=logical",
    "listen_addresses=127.0.0.1",
];

/// A server on a free port of the loopback interface. Dropped, it is gone with its data.
///
/// Its functions wait, and block the thread meanwhile.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Option<Service>,
    programs: PathBuf,
    port: u16,
    /// Lie over those of every server.
    settings: &'static [&'static str],
    // Dropped last.
    dir: TempDir,
}

impl PrivatePostgres {
    /// Makes a cluster and starts it; installs PostgreSQL where it is missing and that is allowed.
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
        let programs = find_or_install(&["postgresql"], programs)?;
        let dir = directory()?;
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
        give(dir.path())?;
        let data = dir.path().join("data");
        run(as_owner(&programs.join("initdb"))?
            .args(["--username=postgres", "--auth=scram-sha-256", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data)
            .current_dir(dir.path()))?;
        let mut made = Self {
            server: None,
            programs,
            port: free_port()?,
            settings,
            dir,
        };
        made.restart()?;
        Ok(made)
    }

    /// Its URL, as a superuser.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// Kills the server, as `kill -9` does. Its data stays.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it again on the same port and data.
    ///
    /// # Errors
    /// What the server said.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        // Sessions of a killed server end by themselves, and until then hold its shared memory.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.launch() {
                Ok(server) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn launch(&self) -> Result<Service, String> {
        let dir = self.dir.path();
        let mut command = as_owner(&self.programs.join("postgres"))?;
        command.arg("-D").arg(dir.join("data")).current_dir(dir);
        command.args(["-p", &self.port.to_string(), "-k"]).arg(dir);
        let settings = SETTINGS.iter().chain(self.settings);
        command.args(settings.flat_map(|setting| ["-c", setting]));
        let mut server = Service::start(command, &dir.join("log"))?;
        let port = self.port.to_string();
        let mut asking = Command::new(self.programs.join("pg_isready"));
        asking.args(["-q", "-h", "127.0.0.1", "-p", &port]);
        let asking = std::cell::RefCell::new(asking);
        server.wait_until(|| {
            let answer = asking.borrow_mut().status();
            answer.is_ok_and(|answer| answer.success())
        })?;
        Ok(server)
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // At once, but so that its sessions end too.
            server.end(Signal::SIGQUIT);
        }
    }
}

/// Where the newest PostgreSQL's programs are: Debian keeps them off the path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    let newest = folders
        .filter(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .max_by_key(|folder| {
            let version = folder.parent().and_then(Path::file_name);
            version.and_then(|version| version.to_string_lossy().parse::<u32>().ok())
        });
    newest.or_else(|| Some(on_path("initdb")?.parent()?.to_owned()))
}

/// PostgreSQL does not run as root; root runs it as the user that its package made.
fn as_owner(program: &Path) -> Result<Command, String> {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(id_of_owner("-u")?).gid(id_of_owner("-g")?);
    }
    Ok(command)
}

fn id_of_owner(kind: &str) -> Result<u32, String> {
    let id = run(Command::new("id").args([kind, OWNER]))?;
    id.parse().map_err(|_| format!("id said {id:?}"))
}

fn give(dir: &Path) -> Result<(), String> {
    if is_root() {
        run(Command::new("chown").args(["-R", OWNER]).arg(dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection, Row};

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
        let mut session = PgConnection::connect(&server.url()).await.unwrap();
        let row = sqlx::query("SELECT value FROM kept");
        let row = row.fetch_one(&mut session).await.unwrap();
        assert_eq!(row.get::<i32, _>(0), 7);
    }
}
