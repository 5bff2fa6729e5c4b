//! A Python with Google's Tink, to test interoperability against the real thing.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Pinned, so that a failure is ours and not a new release's.
const REQUIREMENT: &str = "tink==1.16.1";
/// Names a Python that has Tink already, where nothing may be installed.
const OVERRIDE: &str = "REKEY_TEST_PYTHON";

/// The path of a Python interpreter that can `import tink`.
///
/// The first call installs one in the target directory, which takes a while and needs the package
/// index; test processes that ask at the same time wait for it.
///
/// # Panics
/// If there is none and none can be installed; the message says what to do.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(find_or_install).clone()
}

fn find_or_install() -> PathBuf {
    let found = env::var_os(OVERRIDE).map(PathBuf::from);
    let python = found.unwrap_or_else(|| installed_in(&target_directory().join("tink-venv")));
    let imported = run(Command::new(&python).args(["-I", "-c", "import tink.aead"]));
    if let Err(error) = imported {
        remedy(&format!("{} cannot import tink: {error}", python.display()));
    }
    python
}

/// The interpreter of the virtual environment at `venv`, which is made unless it is complete.
fn installed_in(venv: &Path) -> PathBuf {
    let _held_until_installed = lock(&venv.with_extension("lock"));
    let complete = venv.join(format!("installed-{REQUIREMENT}"));
    if !complete.exists()
        && let Err(error) = install(venv).and_then(|()| touch(&complete))
    {
        remedy(&error);
    }
    venv.join("bin/python")
}

fn install(venv: &Path) -> Result<(), String> {
    create_venv(venv).or_else(|error| {
        install_python().map_err(|also| format!("{error}; {also}"))?;
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
        .arg(REQUIREMENT))
}

/// Anew each time: what is there was left by an attempt that did not end.
fn create_venv(venv: &Path) -> Result<(), String> {
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(venv))
}

/// Only as root with apt, as in a container: elsewhere a test changes nothing outside its directory.
fn install_python() -> Result<(), String> {
    let id = Command::new("id").arg("-u").output();
    if id.is_ok_and(|id| id.stdout.trim_ascii() != b"0") {
        return Err("not root, so it cannot be installed".to_owned());
    }
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "python3", "python3-venv"]))
}

/// Runs `command` to its end; its output is shown only if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{name}: {}: {}",
        output.status,
        String::from_utf8_lossy(&said)
    ))
}

/// Held by one process at a time, and let go by the operating system however that process ends.
fn lock(path: &Path) -> File {
    let file = File::create(path).expect("the target directory can be written");
    file.lock().expect("the target directory supports locks");
    file
}

fn touch(path: &Path) -> Result<(), String> {
    fs::write(path, "").map_err(|error| format!("{}: {error}", path.display()))
}

fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = workspace.join(target);
    fs::create_dir_all(&target).expect("the target directory can be made");
    target
        .canonicalize()
        .expect("the target directory was just made")
}

fn remedy(error: &str) -> ! {
    panic!(
        "the Tink tests need Python with {REQUIREMENT}: install python3 and python3-venv and allow \
         pip its package index, or set {OVERRIDE} to a Python that has it. What failed: {error}"
    );
}
