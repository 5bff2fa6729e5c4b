//! An AWS KMS emulator of one's own, as a Python program in an environment of its own.

use std::process::Command;

use tempfile::TempDir;

use super::directory;
use crate::{
    process::{Service, answers, free_port},
    python,
};

const REQUIREMENT: &str = "moto[server]==5.2.5";

/// An emulator on a free port of the loopback interface. Dropped, it is gone with its keys.
#[derive(Debug)]
pub struct PrivateKms {
    _server: Service,
    port: u16,
    _dir: TempDir,
}

impl PrivateKms {
    /// Starts one; the first time installs it under the target directory.
    ///
    /// # Errors
    /// What failed and what to install.
    pub fn start() -> Result<Self, String> {
        let python = python::environment("moto-venv", REQUIREMENT)?;
        let (dir, port) = (directory()?, free_port()?);
        let mut command = Command::new(python.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut server = Service::start(command, &dir.path().join("log"))?;
        server.wait_until(|| answers(port, "/moto-api/", None))?;
        Ok(Self {
            _server: server,
            port,
            _dir: dir,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
