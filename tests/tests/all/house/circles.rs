//! Keeps files from importing each other in a circle. Reads their text: calls of methods are no arrows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A path, name by name: `crate`, `keys`, `Key`.
type Names = Vec<String>;

/// A module that has a file of its own.
struct Module {
    file: String,
    /// Without comments, what is between quotes, and tests.
    text: String,
    /// What each name stands for that a `use` brings.
    brought: BTreeMap<String, Names>,
    /// Names that only `pub use` brings: to hand them on is no use of them.
    handed_on: BTreeSet<String>,
}

/// One crate: its modules by their paths.
#[derive(Default)]
struct Modules(BTreeMap<Names, Module>);

/// What each file takes from each other, by name.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut arrows = Arrows::new();
    for root_file in roots(root) {
        let read = |file: &Path| fs::read_to_string(root.join(file)).ok();
        arrows.extend(Modules::read(&root_file, &read).arrows());
    }
    assert!(arrows.len() > 100, "only {} files were read", arrows.len());
    let circles = circles(&arrows);
    assert!(
        circles.is_empty(),
        "files import each other in a circle; move what both use to a file of its own:\n{}",
        circles.join("\n")
    );
}

#[test]
fn a_circle_is_found() {
    let files = [
        ("x/src/lib.rs", "mod a; mod b; mod c; pub use b::B;"),
        (
            "x/src/a.rs",
            "use crate::{B, c}; // use crate::lib;\n fn a() { c::one() }",
        ),
        ("x/src/b.rs", "pub struct B; fn b() { super::c::two() }"),
        (
            "x/src/c.rs",
            "fn one() {} #[cfg(test)] mod tests { use crate::a; }",
        ),
        ("x/src/c/d.rs", "not a module of lib.rs"),
    ];
    let circles_of = |files: &[(&str, &str)]| {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        let read = |file: &Path| files.get(file.to_str()?).map(|text| (*text).to_owned());
        circles(&Modules::read(Path::new("x/src/lib.rs"), &read).arrows())
    };
    assert_eq!(circles_of(&files), [""; 0]);
    let mut closed = files;
    closed[2].1 = "pub struct B;";
    closed[3].1 = "fn one() { crate::a::a() } fn two() {}";
    let circle = ["  x/src/a.rs -> x/src/c.rs: one\n  x/src/c.rs -> x/src/a.rs: a\n"];
    assert_eq!(circles_of(&closed), circle);
}

/// The root file of every library and program.
fn roots(root: &Path) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    for folder in ["crates", "workspace"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let source = Path::new(folder).join(entry.unwrap().file_name());
            let files = ["src/lib.rs", "src/main.rs"].map(|file| source.join(file));
            roots.extend(files.into_iter().filter(|file| root.join(file).exists()));
        }
    }
    roots
}

impl Modules {
    fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = Self::default();
        modules.add(&[], root, root.parent().unwrap(), read);
        modules
    }

    /// Adds a module and, by what it declares, those below it.
    fn add(
        &mut self,
        at: &[String],
        file: &Path,
        folder: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let Some(text) = read(file) else { return };
        let text = without_tests(&plain(&text));
        let uses = uses(&text);
        for child in declared(&text) {
            let (below, file) = (folder.join(&child), folder.join(format!("{child}.rs")));
            self.add(&joined(at, &[child]), &file, &below, read);
        }
        let rest = without_declarations(&text);
        let named: BTreeSet<_> = first_names(&rest).collect();
        let module = Module {
            file: file.to_str().unwrap().to_owned(),
            handed_on: uses
                .iter()
                .filter(|one| one.public && !named.contains(one.name.as_str()))
                .map(|one| one.name.clone())
                .collect(),
            brought: uses.into_iter().map(|one| (one.name, one.path)).collect(),
            text: rest,
        };
        self.0.insert(at.to_vec(), module);
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (at, module) in &self.0 {
            let mine = arrows.entry(module.file.clone()).or_default();
            for (file, name) in self.taken(at, module) {
                if file != module.file {
                    mine.entry(file).or_default().insert(name);
                }
            }
        }
        arrows
    }

    /// The files that a module takes names from.
    fn taken(&self, at: &[String], module: &Module) -> Vec<(String, String)> {
        let brought = module.brought.iter();
        let used = brought.filter(|(name, _)| !module.handed_on.contains(*name));
        let named = used
            .map(|(_, path)| path.clone())
            .chain(paths(&module.text));
        named.filter_map(|path| self.find(at, &path, 0)).collect()
    }

    /// The file that defines what a path names, seen from the module `at`. Of a path to a whole module nothing is
    /// found: what is used of it is named by paths of its own.
    fn find(&self, at: &[String], path: &[String], depth: usize) -> Option<(String, String)> {
        let (first, rest) = path.split_first()?;
        let module = self.0.get(at)?;
        let below = joined(at, std::slice::from_ref(first));
        match first.as_str() {
            "crate" => self.find(&[], rest, depth),
            "self" => self.find(at, rest, depth),
            "super" => self.find(&at[..at.len().checked_sub(1)?], rest, depth),
            name => match module.brought.get(name) {
                _ if !rest.is_empty() && self.0.contains_key(&below) => {
                    self.find(&below, rest, depth)
                }
                Some(target) if depth < 9 && self.is_ours(at, name, target) => {
                    self.find(at, &joined(target, rest), depth + 1)
                }
                None if !self.0.contains_key(&below) => {
                    Some((module.file.clone(), name.to_owned()))
                }
                _ => None,
            },
        }
    }

    /// Whether what `name` stands for in the module `at` is of this crate.
    fn is_ours(&self, at: &[String], name: &str, target: &[String]) -> bool {
        let first = target[0].as_str();
        let below = joined(at, &target[..1]);
        let brought = first != name && self.0[at].brought.contains_key(first);
        brought || ["crate", "self", "super"].contains(&first) || self.0.contains_key(&below)
    }
}

/// One name that a `use` brings.
struct Use {
    public: bool,
    name: String,
    path: Names,
}

/// The names that a file's `use` lines bring. What a `*` brings is not read.
fn uses(text: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    for (start, end) in use_lines(text) {
        let public = text[..start].trim_end().ends_with([')', 'b']);
        for (name, path) in leaves(&[], text[start + 4..end].trim()) {
            uses.push(Use { public, name, path });
        }
    }
    uses
}

/// Where each `use` begins, and where its `;` stands.
fn use_lines(text: &str) -> Vec<(usize, usize)> {
    let begins = |at: &usize| !text[..*at].ends_with(is_of_name);
    let starts = text.match_indices("use ").map(|(at, _)| at).filter(begins);
    starts
        .filter_map(|start| Some((start, start + text[start..].find(';')?)))
        .collect()
}

/// The code that is neither `use` nor `mod name;`.
fn without_declarations(text: &str) -> String {
    let (mut rest, mut from) = (String::new(), 0);
    for (start, end) in use_lines(text) {
        rest.push_str(&text[from..start]);
        from = end;
    }
    rest.push_str(&text[from..]);
    let declared = declared(text).into_iter();
    declared.fold(rest, |rest, name| rest.replace(&format!("mod {name};"), ""))
}

/// The names at the ends of one `use`, each with its whole path.
fn leaves(before: &[String], tree: &str) -> Vec<(String, Names)> {
    if let Some((head, group)) = tree.split_once('{') {
        let before = joined(before, &names(head));
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let branches = branches(group).into_iter();
        return branches.flat_map(|one| leaves(&before, one)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = joined(before, &names(path));
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    match path.last() {
        None => Vec::new(),
        Some(last) if last == "*" => Vec::new(),
        Some(last) if alias.is_empty() => vec![(last.clone(), path)],
        Some(_) => vec![(alias.trim().to_owned(), path)],
    }
}

/// Splits at the commas that are in no inner braces.
fn branches(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|one| !one.is_empty()).collect()
}

/// The modules that a file declares and does not hold itself.
fn declared(text: &str) -> Vec<String> {
    let statements = text
        .split([';', '}', ']'])
        .zip(text.matches([';', '}', ']']));
    let ended = statements.filter(|(_, end)| *end == ";");
    let name = ended.filter_map(|(one, _)| one.rsplit_once("mod "));
    let whole = name.filter(|(before, name)| !before.ends_with(is_of_name) && is_name(name));
    whole.map(|(_, name)| name.to_owned()).collect()
}

/// Paths of two names and more that code names.
fn paths(text: &str) -> Vec<Names> {
    let whole = text.split(|c| !is_of_name(c) && c != ':');
    let paths = whole.filter(|path| !path.starts_with(':')).map(names);
    paths.filter(|path| path.len() > 1).collect()
}

fn names(path: &str) -> Names {
    let names = path.split(':').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names that code uses as they are, or that its paths begin with.
fn first_names(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.split(|c| !is_of_name(c) && c != ':');
    whole.filter_map(|path| path.split(':').next())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_of_name)
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn joined(one: &[String], other: &[String]) -> Names {
    [one, other].concat()
}

/// A file's code without its comments and without what is between quotes.
fn plain(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let skipped = skipped(rest);
        if skipped == 0 {
            plain.push(c);
        }
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    plain
}

/// How many bytes of a comment or of quoted text the code begins with.
fn skipped(code: &str) -> usize {
    let upto = |end: &str, from: usize| {
        let found = code[from..].find(end);
        found.map_or(code.len(), |at| from + at + end.len())
    };
    if code.starts_with("//") {
        return code.find('\n').unwrap_or(code.len());
    }
    if code.starts_with("/*") {
        return upto("*/", 2);
    }
    if code.starts_with("r#\"") {
        return upto("\"#", 3);
    }
    if code.starts_with('"') {
        return quoted(code);
    }
    if code.starts_with("'\\") {
        return upto("'", 3);
    }
    let mut chars = code.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}

/// The length of a text between quotes, with its quotes.
fn quoted(code: &str) -> usize {
    let mut escaped = false;
    let end = code[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(code.len(), |at| at + 2)
}

/// Leaves out every item that is there for tests only.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + after_item(part))
}

/// What follows the first item.
fn after_item(text: &str) -> &str {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0 && [';', '}'].contains(c)
    });
    end.map_or("", |(at, _)| &text[at + 1..])
}

/// Every circle, in words: which file takes which names from which other.
fn circles(arrows: &Arrows) -> Vec<String> {
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|file| (file, reached(arrows, file)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&String| reached[other].contains(*file);
        let circle: BTreeSet<_> = others.iter().copied().filter(back).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.iter().map(|circle| ties(arrows, circle)).collect()
}

/// The files that one leads to, along any number of arrows.
fn reached<'a>(arrows: &'a Arrows, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<_> = arrows[from].keys().collect();
    while let Some(file) = ahead.pop() {
        if reached.insert(file) {
            ahead.extend(arrows[file].keys());
        }
    }
    reached
}

fn ties(arrows: &Arrows, circle: &BTreeSet<&String>) -> String {
    let mut ties = String::new();
    for from in circle {
        for (to, names) in &arrows[*from] {
            if circle.contains(to) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                ties += &format!("  {from} -> {to}: {}\n", names.join(", "));
            }
        }
    }
    ties
}
