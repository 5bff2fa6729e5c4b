//! Programs of ours whose system clock is hours off: a library that is loaded before the system's.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use tempfile::TempDir;

/// The environment of a process whose clock is ahead by so many seconds, or back.
pub fn ahead_by(seconds: i64) -> Vec<(&'static str, String)> {
    let library = library().to_string_lossy().into_owned();
    vec![
        ("LD_PRELOAD", library),
        ("REKEY_TEST_CLOCK_AHEAD", seconds.to_string()),
    ]
}

/// Compiled once, by what links our programs too.
fn library() -> PathBuf {
    static LIBRARY: OnceLock<TempDir> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/all/processes/shifted_clock.c"
        );
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]);
        let made = cc.arg(dir.path().join(NAME)).arg(source).status();
        assert!(made.expect("a C compiler, cc").success());
        dir
    });
    made.path().join(NAME)
}

const NAME: &str = "shifted_clock.so";
