//! Packages of npm that tests need, each in a folder of its own under the target directory.

use std::{fs, path::PathBuf, process::Command};

use crate::{apt, process::run, python};

/// The folder with `package`, such as `azurite@3.35.0`, which is installed unless it is there. Processes that ask at
/// the same time wait for one another.
pub(crate) fn installed(name: &str, package: &str) -> Result<PathBuf, String> {
    let folder = python::target_directory().join(name);
    let _held_until_installed = python::lock(&folder.with_extension("lock"));
    let complete = folder.join(format!("installed-{package}").replace('/', "-"));
    if complete.exists() {
        return Ok(folder);
    }
    let written = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(written)?;
    install(&folder, package).or_else(|error| {
        apt::install(&["nodejs", "npm"]).map_err(|also| format!("{error}; {also}"))?;
        install(&folder, package)
    })?;
    fs::write(&complete, "").map_err(written)?;
    Ok(folder)
}

fn install(folder: &PathBuf, package: &str) -> Result<(), String> {
    let quietly = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        ".",
    ];
    let mut npm = Command::new("npm");
    run(npm.current_dir(folder).args(quietly).arg(package))?;
    Ok(())
}
