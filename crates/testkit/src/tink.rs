//! A Python with Google's Tink, to test interoperability against the real thing.

use std::{env, path::PathBuf, process::Command, sync::OnceLock};

use crate::{process::run, python};

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
    let installed = || python::environment("tink-venv", REQUIREMENT);
    let python = found
        .map_or_else(installed, Ok)
        .unwrap_or_else(|error| remedy(&error));
    let imported = run(Command::new(&python).args(["-I", "-c", "import tink.aead"]));
    if let Err(error) = imported {
        remedy(&format!("{} cannot import tink: {error}", python.display()));
    }
    python
}

fn remedy(error: &str) -> ! {
    panic!(
        "the Tink tests need Python with {REQUIREMENT}: install python3 and python3-venv and allow \
         pip its package index, or set {OVERRIDE} to a Python that has it. What failed: {error}"
    );
}
