//! A Python with `cryptography`, to have our bundles opened by an implementation that is not ours.

use std::{env, path::PathBuf, process::Command, sync::OnceLock};

use crate::{process::run, python};

/// Pinned, so that a failure is ours and not a new release's.
const REQUIREMENT: &str = "cryptography==50.0.2";
/// Names a Python that has it already, where nothing may be installed.
const OVERRIDE: &str = "REKEY_TEST_PYTHON_HPKE";

/// The path of a Python interpreter that has HPKE with X-Wing. The first call installs one, as
/// [`tink::python`](crate::tink::python) does.
///
/// # Panics
/// If there is none and none can be installed; the message says what to do.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(find_or_install).clone()
}

fn find_or_install() -> PathBuf {
    let found = env::var_os(OVERRIDE).map(PathBuf::from);
    let installed = || python::environment("hpke-venv", REQUIREMENT);
    let python = found
        .map_or_else(installed, Ok)
        .unwrap_or_else(|error| remedy(&error));
    let import = "from cryptography.hazmat.primitives import hpke; hpke.KEM.MLKEM768_X25519";
    if let Err(error) = run(Command::new(&python).args(["-I", "-c", import])) {
        remedy(&format!("{} has no X-Wing: {error}", python.display()));
    }
    python
}

fn remedy(error: &str) -> ! {
    panic!(
        "the tests of bundles need Python with {REQUIREMENT}: install python3 and python3-venv and \
         allow pip its package index, or set {OVERRIDE} to a Python that has it. What failed: {error}"
    );
}
