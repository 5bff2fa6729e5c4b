//! Keeps ARCHITECTURE.md true: the files and tests that its table of rules names are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// How many rules had a test when this was last raised. It only ever grows.
const SHOWN: usize = 10;
const NOT_YET: &str = "not yet";

#[test]
fn the_ten_rules_are_listed_in_order() {
    let page = page();
    let numbers: Vec<_> = rows(&page).map(|row| row.number).collect();
    assert_eq!(numbers, Vec::from_iter(1..=10));
}

#[test]
fn every_file_and_test_of_a_rule_is_there() {
    let page = page();
    let problems: Vec<_> = rows(&page).flat_map(|row| row.problems()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "says what is still to be shown")]
fn no_rule_loses_its_test() {
    let page = page();
    let (shown, missing): (Vec<_>, Vec<_>) = rows(&page).partition(Row::is_shown);
    for row in missing {
        println!("rule {} has no test yet", row.number);
    }
    assert!(
        shown.len() >= SHOWN,
        "{} rules have a test, {SHOWN} had",
        shown.len()
    );
}

#[test]
fn every_path_of_the_page_is_there() {
    let page = page();
    let prose = page.lines().filter(|line| !line.contains(NOT_YET));
    let missing: BTreeSet<_> = prose
        .flat_map(code)
        .filter(|text| text.contains('/') && !text.contains([' ', '*']))
        .map(|text| text.split("::").next().unwrap_or(text))
        .filter(|path| !at_root(path).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whoever reaches a database as its superuser does so in one file, whose databases give no such URL.
#[test]
fn only_the_fixture_of_roles_reaches_a_database_as_a_superuser() {
    let mut files = files_below(&at_root("tests/tests/all"));
    files.extend(files_below(&at_root("tests/src")));
    assert!(
        files
            .iter()
            .any(|path| path.ends_with("every_table/trees.rs"))
    );
    for path in files {
        if path.ends_with("src/roles.rs") || path.ends_with("house/architecture.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for way in ["TestDatabase", "services::POSTGRES"] {
            assert!(!text.contains(way), "{}: {way}", path.display());
        }
    }
}

/// A command asks operations, each of which asks who may; it reads no store by itself.
#[test]
fn no_command_reads_the_store_by_itself() {
    let files = files_below(&at_root("workspace/rekey/src/commands"));
    assert!(files.len() > 10, "{files:?}");
    let reads = |file: &&PathBuf| fs::read_to_string(file).unwrap().contains(".db()");
    let reading: Vec<_> = files.iter().filter(reads).collect();
    assert!(reading.is_empty(), "{reading:?}");
}

/// What a person asks for says who asks. What has no principal is a part of such an operation or of a worker's.
#[test]
fn every_operation_takes_a_principal() {
    let parts = [
        "admit",
        "beat",
        "census_of_columns",
        "columns_along",
        "look_for_stragglers",
        "protected_tables",
        "refuse_lost",
        "refuse_undeclared_effects",
        "standby_keys",
        "turned_away",
        "unknown_keys",
        "watch",
        "works",
    ];
    let (mut seen, mut without) = (0, Vec::new());
    for file in files_below(&at_root("crates/operations/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for function in text.split("\npub async fn ").skip(1) {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            let arguments = function.split(") -> ").next().unwrap_or_default();
            let asks = arguments.contains("principal: &Principal") || parts.contains(&name);
            seen += 1;
            if arguments.contains("services: &Services") && !asks {
                without.push(name.to_owned());
            }
        }
    }
    assert!(seen > 40, "{seen}");
    assert_eq!(without, [""; 0]);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    };
    paths.flat_map(below).collect()
}

#[test]
fn a_row_that_is_not_true_is_found() {
    let problems = |row: &str| Row::parse(row).map_or(0, |row| row.problems().len());
    let this = "tests/tests/all/house/architecture.rs";
    assert_eq!(problems(&format!("| 1. A | `{this}` | {NOT_YET} |")), 0);
    assert_eq!(
        problems(&format!(
            "| 1. A | `{this}` | `{this}::no_rule_loses_its_test` |"
        )),
        0
    );
    let untrue = [
        format!("| 1. No such file | `{this}x` | {NOT_YET} |"),
        format!("| 1. No file | soon | {NOT_YET} |"),
        format!("| 1. No test | `{this}` | soon |"),
        format!("| 1. No such test | `{this}` | `{this}::nothing` |"),
        format!("| 1. No test but a function | `{this}` | `{this}::at_root` |"),
        format!("| 1. A test in no file | `{this}` | `{this}x::nothing` |"),
    ];
    for row in untrue {
        assert_eq!(problems(&row), 1, "{row}");
    }
}

/// One rule of the table.
struct Row<'a> {
    number: u32,
    files: Vec<&'a str>,
    tests: Vec<&'a str>,
    not_yet: bool,
}

impl<'a> Row<'a> {
    /// `None` for a line that is no row of this table.
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [rule, files, tests, ""] = cells[..] else {
            return None;
        };
        Some(Self {
            number: rule.split_once('.')?.0.parse().ok()?,
            files: code(files).collect(),
            tests: code(tests).collect(),
            not_yet: tests == NOT_YET,
        })
    }

    fn is_shown(&self) -> bool {
        !self.tests.is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let number = self.number;
        let mut problems = Vec::new();
        if self.files.is_empty() {
            problems.push(format!("rule {number} names no file"));
        }
        if !self.is_shown() && !self.not_yet {
            problems.push(format!("rule {number}: a test, or `{NOT_YET}`"));
        }
        let files = self.files.iter().filter(|path| !at_root(path).is_file());
        problems.extend(files.map(|path| format!("rule {number}: there is no {path}")));
        let tests = self.tests.iter().filter(|test| !is_test(test));
        problems.extend(tests.map(|test| format!("rule {number}: there is no test {test}")));
        problems
    }
}

fn rows(page: &str) -> impl Iterator<Item = Row<'_>> {
    let (_, section) = page
        .split_once("\n## The ten rules\n")
        .expect("the page has a section of this name");
    let section = section.split("\n## ").next().unwrap_or(section);
    section.lines().filter_map(Row::parse)
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether `path::name` is a test: marked as one, or a case of the suite that its folder is named for.
fn is_test(path_and_name: &str) -> bool {
    let Some((path, name)) = path_and_name.split_once("::") else {
        return false;
    };
    let path = at_root(path);
    let Ok(text) = fs::read_to_string(&path) else {
        return false;
    };
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| declares(line, name)) else {
        return false;
    };
    let mut above = lines[..at].iter().rev();
    above
        .by_ref()
        .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
        .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        || is_case(&path, name)
}

fn declares(line: &str, name: &str) -> bool {
    let Some((before, after)) = line.split_once("fn ") else {
        return false;
    };
    let rest = after.strip_prefix(name);
    !before.starts_with("//") && rest.is_some_and(|rest| rest.starts_with(['(', '<']))
}

fn is_case(path: &Path, name: &str) -> bool {
    let suite = path.parent().map(|folder| folder.with_extension("rs"));
    let suite = suite.and_then(|suite| fs::read_to_string(suite).ok());
    let module = path.file_stem().unwrap_or_default().to_string_lossy();
    suite.is_some_and(|suite| suite.contains(&format!("{module}::{name},")))
}

fn page() -> String {
    fs::read_to_string(at_root("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there")
}

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
