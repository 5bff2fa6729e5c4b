//! Python programs that tests need, each in a virtual environment under the target directory.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{apt, process::run};

/// The interpreter of the virtual environment `name` under the target directory, which is made
/// unless it is complete. Processes that ask at the same time wait for one another.
pub(crate) fn environment(name: &str, requirement: &str) -> Result<PathBuf, String> {
    let venv = target_directory().join(name);
    let _held_until_installed = lock(&venv.with_extension("lock"));
    let complete = venv.join(format!("installed-{requirement}"));
    if !complete.exists() {
        install(&venv, requirement)?;
        touch(&complete)?;
    }
    Ok(venv.join("bin/python"))
}

fn install(venv: &Path, requirement: &str) -> Result<(), String> {
    create_venv(venv).or_else(|error| {
        apt::install(&["python3", "python3-venv"]).map_err(|also| format!("{error}; {also}"))?;
        create_venv(venv)
    })?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(venv.join("bin/python"))
        .args(pip)
        .args(requirement.split_whitespace()))?;
    Ok(())
}

/// Anew each time: what is there was left by an attempt that did not end.
fn create_venv(venv: &Path) -> Result<(), String> {
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(venv))?;
    Ok(())
}

/// Held by one process at a time, and let go by the operating system however that process ends.
pub(crate) fn lock(path: &Path) -> File {
    let file = File::create(path).expect("the target directory can be written");
    file.lock().expect("the target directory supports locks");
    file
}

fn touch(path: &Path) -> Result<(), String> {
    fs::write(path, "").map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = workspace.join(target);
    fs::create_dir_all(&target).expect("the target directory can be made");
    target
        .canonicalize()
        .expect("the target directory was just made")
}
