//! A page of names: the smallest ones behind a name, however many there are.

use std::collections::BTreeSet;

use crate::{Folder, ObjectName};

/// The most names of a page.
pub const PAGE: usize = 1000;

/// Some names of a folder, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The names.
    pub names: Vec<ObjectName>,
    /// Whether more may follow: ask again for those behind the last.
    pub more: bool,
}

/// Gathers a page from names that come in any order, and never holds more than one name too many.
pub(crate) struct Gathering<'a> {
    folder: &'a Folder,
    after: Option<&'a ObjectName>,
    names: BTreeSet<ObjectName>,
}

impl<'a> Gathering<'a> {
    pub(crate) fn new(folder: &'a Folder, after: Option<&'a ObjectName>) -> Self {
        let names = BTreeSet::new();
        Self {
            folder,
            after,
            names,
        }
    }

    /// Takes a name; one that is not asked for is left out.
    pub(crate) fn take(&mut self, name: ObjectName) {
        if !name.is_in(self.folder) || self.after.is_some_and(|after| name <= *after) {
            return;
        }
        self.names.insert(name);
        if self.names.len() > PAGE + 1 {
            self.names.pop_last();
        }
    }

    /// Whether there is a page, and a name that follows it.
    #[cfg(feature = "services")]
    pub(crate) fn is_full(&self) -> bool {
        self.names.len() > PAGE
    }

    pub(crate) fn page(self) -> Page {
        let more = self.names.len() > PAGE;
        let names = self.names.into_iter().take(PAGE).collect();
        Page { names, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_smallest_names_behind_the_last_in_order() {
        let folder = "checkpoints".parse().unwrap();
        let name = |n: usize| format!("checkpoints/{n:020}");
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut gathering = Gathering::new(&folder, after.as_ref());
            let others = ["checkpointsx/1", "bundles/1"].map(str::to_owned);
            for text in (0..2500).rev().map(name).chain(others) {
                gathering.take(text.parse().unwrap());
            }
            let page = gathering.page();
            assert!(page.names.len() <= PAGE);
            all.extend(page.names.iter().map(ObjectName::to_string));
            after = page.names.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(all, (0..2500).map(name).collect::<Vec<_>>());
    }
}
