//! An emulator of Azure's blobs of one's own, as a program for Node.js in a folder of its own.

use std::process::Command;

use tempfile::TempDir;

use super::directory;
use crate::{
    node,
    process::Service,
    running::{AZURITE, Answers, Running},
};

/// Pinned, so that a failure is ours and not a new release's. The last that runs on the Node.js of Debian.
const PACKAGE: &str = "azurite@3.35.0";

/// An emulator. Dropped, it is gone with its blobs.
pub(crate) struct Azure {
    server: Option<Service>,
    answers: Answers,
    // Dropped last.
    dir: TempDir,
}

impl Azure {
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

impl Running for Azure {
    fn kill(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let folder = node::installed("azurite-node", PACKAGE)?;
        let mut command = Command::new("node");
        command
            .arg(folder.join("node_modules/azurite/dist/src/blob/main.js"))
            .args([
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &self.answers.port.to_string(),
            ])
            .args(AZURITE);
        let mut server = Service::start(command, &self.dir.path().join("log"))?;
        server.wait_until(|| self.answers.now())?;
        self.server = Some(server);
        Ok(())
    }
}
