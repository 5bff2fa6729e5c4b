//! The `rekey` program, built once for the tests that kill it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of the debug build of `rekey`, or what `REKEY_TEST_BINARY` names. Crash points exist in debug builds only.
///
/// # Panics
/// When it does not build.
pub fn rekey_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("REKEY_TEST_BINARY") {
            return PathBuf::from(given);
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "rekey", "--bin", "rekey"])
            .current_dir(&workspace)
            .status()
            .expect("cargo runs, as it runs this test");
        assert!(built.success(), "rekey does not build");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), PathBuf::from);
        target.join("debug/rekey")
    })
}
