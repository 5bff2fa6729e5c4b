//! A Python with PyJWT, to have our signatures verified by an implementation that is not ours.

use std::{env, path::PathBuf, process::Command, sync::OnceLock};

use crate::{process::run, python};

/// Pinned, so that a failure is ours and not a new release's. With `crypto` it brings `cryptography`.
const REQUIREMENT: &str = "pyjwt[crypto]==2.15.1";
/// Names a Python that has PyJWT already, where nothing may be installed.
const OVERRIDE: &str = "REKEY_TEST_PYTHON_JOSE";

/// The path of a Python interpreter that can `import jwt`. The first call installs one, as
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
    let installed = || python::environment("jose-venv", REQUIREMENT);
    let python = found
        .map_or_else(installed, Ok)
        .unwrap_or_else(|error| remedy(&error));
    let import = "import jwt, cryptography.hazmat.primitives.asymmetric.ed25519";
    if let Err(error) = run(Command::new(&python).args(["-I", "-c", import])) {
        remedy(&format!("{} cannot import jwt: {error}", python.display()));
    }
    python
}

fn remedy(error: &str) -> ! {
    panic!(
        "the tests of signatures need Python with {REQUIREMENT}: install python3 and python3-venv and \
         allow pip its package index, or set {OVERRIDE} to a Python that has it. What failed: {error}"
    );
}
