//! Keeps the direction of dependencies: who may know whom, and that the core knows no IO.

use std::process::Command;

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand};

/// What knows no IO.
const CORE: [&str; 3] = ["domain", "envelope", "messages"];
/// Every library that a program may know.
const LIBRARIES: [&str; 13] = [
    "backups",
    "broker",
    "client",
    "deployment",
    "destinations",
    "domain",
    "envelope",
    "kms",
    "messages",
    "operations",
    "runtime",
    "sources",
    "store",
];
/// Every program: one folder of `workspace/` each.
const PROGRAMS: [&str; 7] = [
    "backup-verifier",
    "console",
    "incident-notifier",
    "re-encryptor",
    "rekey",
    "rotator",
    "scheduler",
];
/// Crates that wait, read or write; others of their kind come through one of these.
const IO: [&str; 5] = ["lapin", "reqwest", "sea-orm", "sqlx", "tokio"];

/// Whether `from` may depend on `to`. What is not placed here may know nothing.
fn may_know(from: &str, to: &str) -> bool {
    let core = CORE.contains(&to);
    let library = LIBRARIES.contains(&to);
    match from {
        "envelope" | "messages" => to == "domain",
        "backups" | "kms" | "sources" => core,
        "store" => core || to == "migrations",
        "broker" => core || to == "store",
        "runtime" => core || ["broker", "store"].contains(&to),
        "client" => ["domain", "envelope", "kms"].contains(&to),
        "operations" => library && to != "deployment",
        "deployment" | "testkit" | "bench" => library,
        "tests" => library || ["migrations", "testkit"].contains(&to) || PROGRAMS.contains(&to),
        "rekey" => library || to == "migrations" || PROGRAMS.contains(&to),
        program if PROGRAMS.contains(&program) => library || to == "migrations",
        _ => false,
    }
}

/// A crate's own tests may use the test kit besides.
fn allowed(from: &str, dependency: &Dependency) -> bool {
    let to = short(&dependency.name);
    may_know(from, to) || (dependency.kind == DependencyKind::Development && to == "testkit")
}

#[test]
fn every_dependency_keeps_the_direction() {
    let (mut seen, mut forbidden) = (0, Vec::new());
    for package in metadata().workspace_packages() {
        let ours = package.dependencies.iter().filter(|d| d.path.is_some());
        let ours: Vec<_> = ours.collect();
        seen += ours.len();
        let wrong = ours.iter().filter(|d| !allowed(short(&package.name), d));
        forbidden.extend(wrong.map(|d| format!("{} -> {}", package.name, d.name)));
    }
    assert!(seen > 0, "no manifest names a package of ours");
    assert!(
        forbidden.is_empty(),
        "forbidden arrows: {forbidden:?}; see the crates and their direction in ARCHITECTURE.md"
    );
}

#[test]
fn the_core_has_no_io_dependency() {
    for package in metadata().workspace_packages() {
        if !CORE.contains(&short(&package.name)) {
            continue;
        }
        for dependency in &package.dependencies {
            let normal = dependency.kind == DependencyKind::Normal;
            let does_io = IO.contains(&dependency.name.as_str());
            assert!(
                !(normal && does_io),
                "{} does IO: it depends on {}",
                package.name,
                dependency.name
            );
        }
    }
}

/// Rows change by verbs of the store, which nobody fills in beside it.
#[test]
fn only_the_store_and_its_migrations_know_the_orm() {
    let metadata = metadata();
    let knows = |package: &&cargo_metadata::Package| {
        let names = package.dependencies.iter().map(|d| d.name.as_str());
        names.into_iter().any(|name| name.starts_with("sea-orm"))
    };
    let packages = metadata.workspace_packages();
    let knowing = packages
        .iter()
        .map(|package| &**package)
        .filter(|package| knows(package));
    let mut names: Vec<_> = knowing.map(|package| short(&package.name)).collect();
    names.sort_unstable();
    assert_eq!(names, ["migrations", "store"]);
}

#[test]
fn every_package_has_its_place() {
    for package in metadata().workspace_packages() {
        let name = short(&package.name);
        let folder = package.manifest_path.parent().expect("a manifest has one");
        let is_program = folder.parent().is_some_and(|p| p.ends_with("workspace"));
        assert_eq!(is_program, PROGRAMS.contains(&name), "{name} in {folder}");
        let other = LIBRARIES.contains(&name)
            || ["bench", "migrations", "testkit", "tests"].contains(&name);
        assert!(is_program || other, "{name} has no place in `may_know`");
    }
}

/// `deny.toml` says which, and why. What it takes to check them is not on every machine; this is.
#[test]
fn no_crate_that_is_banned_is_built_into_anything() {
    let banned = banned();
    assert!(banned.contains(&"ring".to_owned()), "{banned:?}");
    let built = built();
    assert!(built.contains(&"aws-lc-rs".to_owned()), "{built:?}");
    let found: Vec<_> = banned.iter().filter(|name| built.contains(name)).collect();
    assert_eq!(
        found, [&""; 0],
        "see deny.toml, and cargo tree -e all -i NAME"
    );
}

fn banned() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml"));
    let deny: toml::Table = text.unwrap().parse().unwrap();
    let bans = deny["bans"]["deny"].as_array().unwrap().iter();
    bans.map(|ban| ban["crate"].as_str().unwrap().to_owned())
        .collect()
}

/// Every crate of this machine's target, with all features. Takes no lock of a build.
fn built() -> Vec<String> {
    let arguments = "tree --workspace --all-features --edges all --prefix none --format {p}";
    let tree = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let lines = String::from_utf8(tree.stdout).unwrap();
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    lines.lines().map(name).collect()
}

#[test]
fn a_forbidden_dependency_is_found() {
    let forbidden = [
        ("domain", "messages"),
        ("envelope", "messages"),
        ("messages", "envelope"),
        ("destinations", "backups"),
        ("kms", "sources"),
        ("sources", "store"),
        ("store", "broker"),
        ("store", "kms"),
        ("broker", "runtime"),
        ("runtime", "operations"),
        ("client", "store"),
        ("client", "messages"),
        ("operations", "testkit"),
        ("operations", "migrations"),
        ("operations", "rotator"),
        ("migrations", "domain"),
        ("rotator", "scheduler"),
        ("rotator", "rekey"),
        ("rotator", "testkit"),
        ("newcomer", "domain"),
    ];
    for (from, to) in forbidden {
        assert!(!may_know(from, to), "{from} -> {to}");
    }
}

#[test]
fn the_dependencies_of_the_design_are_allowed() {
    let allowed = [
        ("messages", "domain"),
        ("envelope", "domain"),
        ("kms", "envelope"),
        ("store", "migrations"),
        ("broker", "store"),
        ("runtime", "broker"),
        ("client", "kms"),
        ("operations", "client"),
        ("scheduler", "migrations"),
        ("rotator", "operations"),
        ("rekey", "rotator"),
        ("tests", "testkit"),
    ];
    for (from, to) in allowed {
        assert!(may_know(from, to), "{from} -> {to}");
    }
}

/// Manifests only: needs no network and takes no lock of a build.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo reads the workspace's manifests")
}

/// A package's name as DESIGN and ARCHITECTURE write it; `rekey` itself has no other.
fn short(package: &str) -> &str {
    package.strip_prefix("rekey-").unwrap_or(package)
}
