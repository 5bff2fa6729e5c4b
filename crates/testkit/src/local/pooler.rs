//! pgbouncer from the programs of this machine.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
};

use tempfile::TempDir;

use super::{
    directory, find_or_install, is_file, on_path,
    postgres::{as_owner, give},
};
use crate::process::Service;

/// Debian keeps it off the path of whoever is not root.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A pooler. Dropped, it is gone.
pub(crate) struct Pooler {
    _service: Service,
    // Dropped last.
    _dir: TempDir,
}

impl Pooler {
    /// Starts one that listens at `port`; installs it where it is missing and that is allowed.
    pub(crate) fn start(port: u16, configuration: &str) -> Result<Self, String> {
        let program = find_or_install(&["pgbouncer"], program)?;
        let dir = directory()?;
        let file = dir.path().join("pgbouncer.ini");
        fs::write(&file, configuration).map_err(|error| error.to_string())?;
        give(dir.path())?;
        let mut command = as_owner(&program)?;
        command.arg(&file).current_dir(dir.path());
        let mut service = Service::start(command, &dir.path().join("log"))?;
        service.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Self {
            _service: service,
            _dir: dir,
        })
    }
}

fn program() -> Option<PathBuf> {
    let debian = PathBuf::from(PROGRAM);
    on_path("pgbouncer").or_else(|| is_file(&debian).then_some(debian))
}
