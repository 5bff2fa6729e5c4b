//! Our programs, built once for the tests that start and kill them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of the debug build of a program, such as `rekey-rotator`, in the folder that
/// `REKEY_TEST_PROGRAMS` names or else built here. Crash points exist in debug builds only.
///
/// # Panics
/// When it does not build.
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The folder of the programs.
///
/// # Panics
/// When they do not build.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(given) = std::env::var_os("REKEY_TEST_PROGRAMS") {
            return PathBuf::from(given);
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = target_folder(&workspace);
        build(&workspace, &target, &["--tests"], &["rekey/services"]);
        target.join("debug")
    })
}

pub(crate) fn target_folder(workspace: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// Builds the programs with the features that `cargo test --workspace` has, and so with the dependencies that it built:
/// `tests` selects some tests, as dependencies of tests have features too. By package, nearly all of them would be built
/// once more.
pub(crate) fn build(workspace: &Path, target: &Path, tests: &[&str], features: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--workspace", "--bins"])
        .args(tests)
        .args(["--features", &features.join(",")])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(workspace)
        .status()
        .expect("cargo runs, as it runs this test");
    assert!(built.success(), "the programs do not build");
}
