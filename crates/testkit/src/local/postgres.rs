//! A PostgreSQL server of one's own from the programs of this machine.

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
    process::{Service, run},
    running::{Answers, Running, SETTINGS},
};

const OWNER: &str = "postgres";
const PASSWORD: &str = "postgres";

/// A server. Dropped, it is gone with its data.
pub(crate) struct Postgres {
    server: Option<Service>,
    programs: PathBuf,
    answers: Answers,
    /// Lie over those of every server.
    settings: &'static [&'static str],
    // Dropped last.
    dir: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it; installs PostgreSQL where it is missing and that is allowed.
    pub(crate) fn start(
        answers: Answers,
        settings: &'static [&'static str],
    ) -> Result<Self, String> {
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
            answers,
            settings,
            dir,
        };
        made.restart()?;
        Ok(made)
    }

    fn launch(&self) -> Result<Service, String> {
        let dir = self.dir.path();
        let mut command = as_owner(&self.programs.join("postgres"))?;
        command.arg("-D").arg(dir.join("data")).current_dir(dir);
        let port = self.answers.port.to_string();
        command.args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-k"]);
        command.arg(dir);
        let settings = SETTINGS.iter().chain(self.settings);
        command.args(settings.flat_map(|setting| ["-c", setting]));
        let mut server = Service::start(command, &dir.join("log"))?;
        server.wait_until(|| self.answers.now())?;
        Ok(server)
    }
}

impl Running for Postgres {
    fn kill(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) -> Result<(), String> {
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
}

impl Drop for Postgres {
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
pub(super) fn as_owner(program: &Path) -> Result<Command, String> {
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

pub(super) fn give(dir: &Path) -> Result<(), String> {
    if is_root() {
        run(Command::new("chown").args(["-R", OWNER]).arg(dir))?;
    }
    Ok(())
}
