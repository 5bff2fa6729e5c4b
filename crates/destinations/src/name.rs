//! Names of objects and folders: parsed once, so that none leads anywhere else.

use std::{fmt, str::FromStr};

/// The most bytes of a part. A SHA-256 in hex with `.json` has 69.
const MAX_PART: usize = 80;
/// A folder has at most one part less.
const MAX_PARTS: usize = 4;

/// A text that is no name of an object or folder. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?}: expected {least} to {most} parts with a slash between them, each of lower-case letters, digits, - and single dots within"
)]
pub struct NotAnObjectName {
    /// What was given, its beginning.
    pub found: String,
    /// How many parts there are at least.
    pub least: usize,
    /// How many parts there are at most.
    pub most: usize,
}

/// An object's name, such as `checkpoints/00000000000000000007`: two to four parts.
///
/// Capital letters are left out, as some file systems take them for small ones; a part that begins with a dot, as no
/// name of ours then is one of a file on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Where names begin, such as `bundles` or `bundles/0a1b2c3d`: one to three parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Folder(String);

impl ObjectName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is in the folder, at any depth.
    pub fn is_in(&self, folder: &Folder) -> bool {
        let rest = self.0.strip_prefix(&folder.0);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The folders that lead to it, and its own part.
    pub(crate) fn parts(&self) -> (Vec<&str>, &str) {
        let mut parts: Vec<_> = self.0.split('/').collect();
        let last = parts.pop().expect("a name has at least two parts");
        (parts, last)
    }
}

impl Folder {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = NotAnObjectName;

    fn from_str(text: &str) -> Result<Self, NotAnObjectName> {
        parse(text, 2, MAX_PARTS).map(Self)
    }
}

impl FromStr for Folder {
    type Err = NotAnObjectName;

    fn from_str(text: &str) -> Result<Self, NotAnObjectName> {
        parse(text, 1, MAX_PARTS - 1).map(Self)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse(text: &str, least: usize, most: usize) -> Result<String, NotAnObjectName> {
    let parts = text.split('/');
    if (least..=most).contains(&parts.clone().count()) && parts.clone().all(is_part) {
        return Ok(text.to_owned());
    }
    let found = text.chars().take(100).collect();
    Err(NotAnObjectName { found, least, most })
}

/// Whether a part of a name may read so.
pub(crate) fn is_part(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    part.len() <= MAX_PART
        && part.chars().all(allowed)
        && part.split('.').all(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_bundles_and_checkpoints_are_names() {
        for text in [
            "bundles/0a1b2c3d/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json",
            "checkpoints/00000000000000000007",
            "states/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.json",
            "probe/erasable",
        ] {
            let name: ObjectName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
        }
    }

    #[test]
    fn a_name_that_leads_anywhere_else_is_none() {
        let long = format!("bundles/{}", "a".repeat(81));
        for text in [
            "",
            "/",
            "a",
            "a/",
            "/a/b",
            "a//b",
            "a/b/",
            "a/..",
            "../a",
            "a/../b",
            "./a",
            "a/.",
            "a/.b",
            "a/b.",
            "a/b..c",
            "a/b c",
            "a/b\n",
            "a/b\0",
            "a\\b/c",
            "A/b",
            "a/B",
            "a/é",
            "a/%2e%2e",
            "a/b?c",
            "a/b#c",
            "a/b/c/d/e",
            "~/a",
            "c:/a",
            "a/\u{2024}\u{2024}",
            &long,
        ] {
            assert!(text.parse::<ObjectName>().is_err(), "{text:?}");
        }
        for text in ["", "/", "..", "a/", "a/b/c/d", ".new"] {
            assert!(text.parse::<Folder>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_in_its_folders_and_in_no_other() {
        let name: ObjectName = "bundles/0a1b2c3d/e3.json".parse().unwrap();
        for (folder, expected) in [
            ("bundles", true),
            ("bundles/0a1b2c3d", true),
            ("bundle", false),
            ("bundles/0a", false),
        ] {
            assert_eq!(name.is_in(&folder.parse().unwrap()), expected, "{folder}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_stays_below_where_it_is_put(text in "[a-z./\\\\-]{0,20}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                let path = std::path::Path::new(name.as_str());
                let normal = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(path.components().all(normal));
                prop_assert_eq!(path.components().count(), text.split('/').count());
            }
        }
    }
}
