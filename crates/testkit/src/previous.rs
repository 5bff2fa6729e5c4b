//! Our programs as they were before the newest migration, for tests of a rolling deploy.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::programs;

/// The file that says of which commit the source is.
const COMMIT: &str = "commit";

/// The folder with the programs of the commit before the one that added the newest migration, or of
/// the commit that `REKEY_TEST_PREVIOUS` names, built once into `target/previous`.
///
/// # Panics
/// Without the history of the repository, or when they do not build.
pub fn previous_programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let named = std::env::var("REKEY_TEST_PREVIOUS");
        let commit = named.unwrap_or_else(|_| commit_before_newest_migration(&workspace));
        let commit = run(Command::new("git")
            .args(["rev-parse", &commit])
            .current_dir(&workspace));
        let target = programs::target_folder(&workspace).join("previous");
        let source = target.join("source");
        if std::fs::read_to_string(target.join(COMMIT)).ok().as_ref() != Some(&commit) {
            extract(&workspace, commit.trim(), &target);
            lend_dependencies(&programs::target_folder(&workspace), &target);
            std::fs::write(target.join(COMMIT), &commit).expect("the target folder is ours");
        }
        programs::build(&source, &target, &["--test", "suite"], &features(&source));
        target.join("debug")
    })
}

/// The features that older programs need: those without this feature have all of it anyway.
fn features(source: &Path) -> Vec<&'static str> {
    let manifest = source.join("workspace/rekey/Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("each program has a manifest");
    let has_it = text.lines().any(|line| line.starts_with("services ="));
    if has_it {
        vec!["rekey/services"]
    } else {
        Vec::new()
    }
}

/// The source of a commit. Its files are as of now: by the dates of another commit's, cargo would take
/// what it built of that one for this one's.
fn extract(workspace: &Path, commit: &str, target: &Path) {
    let source = target.join("source");
    let _ = std::fs::remove_dir_all(&source);
    std::fs::create_dir_all(&source).expect("the target folder is ours");
    let archive = target.join("source.tar");
    let written = format!("--output={}", archive.display());
    run(Command::new("git")
        .args(["archive", &written, commit])
        .current_dir(workspace));
    run(Command::new("tar")
        .arg("-xmf")
        .arg(&archive)
        .arg("-C")
        .arg(&source));
}

/// Gives cargo what it built of other people's crates: most of a build. Libraries by hard links, as a compiler makes a new
/// file; what cargo and build scripts write to as copies. Ours are of the same names there, and are left out, so that
/// none is taken for that of another commit.
fn lend_dependencies(from: &Path, to: &Path) {
    for folder in [".fingerprint", "build", "deps"] {
        let (from, to) = (
            from.join("debug").join(folder),
            to.join("debug").join(folder),
        );
        let _ = std::fs::remove_dir_all(&to);
        std::fs::create_dir_all(&to).expect("the target folder is ours");
        let entries = std::fs::read_dir(from).into_iter().flatten().flatten();
        let theirs = entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_crate = folder != "deps" || name.starts_with("lib");
            is_crate && !name.starts_with("rekey") && !name.starts_with("librekey")
        });
        let theirs = theirs.map(|entry| entry.path()).collect::<Vec<_>>();
        let how = if folder == "deps" { "-al" } else { "-a" };
        for some in theirs.chunks(500) {
            run(Command::new("cp").args([how, "-t"]).arg(&to).args(some));
        }
    }
}

fn commit_before_newest_migration(workspace: &Path) -> String {
    let folder = workspace.join("migrations/src");
    let names = std::fs::read_dir(&folder).expect("the migrations are there");
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("m0")).max();
    let newest = format!("migrations/src/{}", newest.expect("there are migrations"));
    let mut log = Command::new("git");
    log.args(["log", "--diff-filter=A", "--format=%H", "-1", "--", &newest]);
    let added = run(log.current_dir(workspace));
    match added.trim() {
        // It is not committed yet.
        "" => "HEAD".to_owned(),
        added => format!("{added}^"),
    }
}

fn run(command: &mut Command) -> String {
    let done = command.output().expect("git and tar are installed");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8(done.stdout).expect("a hash")
}
