//! An AWS KMS emulator of one's own, as a Python program in an environment of its own.

use std::process::Command;

use tempfile::TempDir;

use super::directory;
use crate::{
    process::Service,
    python,
    running::{Answers, Running},
};

const REQUIREMENT: &str = "moto[server]==5.2.5";

/// An emulator. Dropped, it is gone with its keys.
pub(crate) struct Kms {
    server: Option<Service>,
    answers: Answers,
    // Dropped last.
    dir: TempDir,
}

impl Kms {
    /// Starts one; the first time installs it under the target directory.
    pub(crate) fn start(answers: Answers) -> Result<Self, String> {
        let mut made = Self {
            server: None,
            answers,
            dir: directory()?,
        };
        made.restart()?;
        Ok(made)
    }
}

impl Running for Kms {
    fn kill(&mut self) {
        self.server = None;
    }

    /// It keeps nothing.
    fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let python = python::environment("moto-venv", REQUIREMENT)?;
        let mut command = Command::new(python.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &self.answers.port.to_string()]);
        let mut server = Service::start(command, &self.dir.path().join("log"))?;
        server.wait_until(|| self.answers.now())?;
        self.server = Some(server);
        Ok(())
    }
}
