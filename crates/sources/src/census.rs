//! What a census gives back: counts by key, and whether the values below the target are those that a pass had to leave.

use std::collections::BTreeMap;

use rekey_domain::{Found, PartId};

use crate::{PassToShow, SourceError, ValueId};

/// The values of a column that are the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// What they are.
    pub found: Found,
    /// How many there are.
    pub values: u64,
    /// How many of them are values that the pass had to leave. The look ends at the first other value, so if this is
    /// less than `values` below the target, there are stragglers.
    pub left: u64,
}

impl Counted {
    /// What they are, and how many.
    pub fn values(&self) -> (Found, u64) {
        (self.found, self.values)
    }
}

/// How many values each column has of each finding.
pub(crate) type Counts = BTreeMap<(usize, Found), u64>;

/// A census while it is taken.
pub(crate) struct Counting<'a> {
    pass: Option<&'a PassToShow>,
    pub(crate) counts: Counts,
    left: Counts,
    /// Looks at every value, for those that are wanted wherever they are now.
    seeks: bool,
}

impl<'a> Counting<'a> {
    pub(crate) fn new(pass: Option<&'a PassToShow>) -> Self {
        if let Some(standing) = pass.and_then(|pass| pass.standing.as_ref()) {
            standing.forget();
        }
        Self {
            pass,
            counts: Counts::new(),
            left: Counts::new(),
            seeks: false,
        }
    }

    /// Whether values are wanted wherever they are now; if so, [`look`](Self::look) looks for those from here on.
    pub(crate) fn seek(&mut self) -> bool {
        let standing = self.pass.and_then(|pass| pass.standing.as_ref());
        self.seeks = standing.is_some_and(|standing| !standing.is_empty());
        self.seeks
    }

    /// The pass, if its values below the target must be looked at one by one. None if there are none, or if a column
    /// has more of them than the pass had to leave: then some are stragglers without a look.
    pub(crate) fn to_look_for(&self) -> Option<&'a PassToShow> {
        let pass = self.pass?;
        let mut unsettled = vec![0; pass.left.len()];
        for ((column, found), values) in &self.counts {
            if !is_settled(pass, *found) {
                unsettled[*column] += values;
            }
        }
        let known = pass.left.iter().map(|left| left.len() as u64);
        let few = unsettled
            .iter()
            .zip(known)
            .all(|(found, known)| *found <= known);
        (few && unsettled.iter().any(|values| *values > 0)).then_some(pass)
    }

    /// Looks at a value below the target; false: it is a straggler.
    pub(crate) fn look(&mut self, column: usize, found: Found, id: &ValueId) -> bool {
        let standing = self.pass.and_then(|pass| pass.standing.as_ref());
        if let Some(standing) = standing
            && self.seeks
        {
            standing.see(column, id);
            return true;
        }
        let known = self.pass.is_some_and(|pass| pass.left[column].contains(id));
        if known {
            if let Some(standing) = standing {
                standing.see_left(column, id);
            }
            *self.left.entry((column, found)).or_default() += 1;
        }
        known
    }

    pub(crate) fn into_columns(self, columns: usize) -> Vec<Vec<Counted>> {
        let mut by_column = vec![Vec::new(); columns];
        for ((column, found), values) in self.counts {
            let left = self.left.get(&(column, found)).copied().unwrap_or_default();
            let counted = Counted {
                found,
                values,
                left,
            };
            by_column[column].push(counted);
        }
        by_column
    }
}

/// Checks that the pass read exactly the parts that there are; each comes with whether it has rows.
///
/// # Errors
/// [`SourceError::PartChanged`] names a part with rows that the pass did not read, or one that is gone.
pub(crate) fn check_parts(
    relation: &str,
    parts: &[(PartId, bool)],
    pass: &PassToShow,
) -> Result<(), SourceError> {
    let Some(read) = &pass.parts else {
        return Ok(());
    };
    let unread = parts
        .iter()
        .find(|(part, has_rows)| *has_rows && !read.contains(part));
    let gone = read
        .iter()
        .find(|part| parts.iter().all(|(one, _)| one.name != part.name));
    match unread.map(|(part, _)| part).or(gone) {
        None => Ok(()),
        Some(part) => Err(SourceError::PartChanged {
            relation: relation.to_owned(),
            part: part.name.clone(),
        }),
    }
}

fn is_settled(pass: &PassToShow, found: Found) -> bool {
    found.is_settled(|key| pass.settled.contains(&key))
}

/// The same counts, column by column.
pub(crate) fn by_column(counts: Counts, columns: usize) -> Vec<Vec<(Found, u64)>> {
    let mut by_column = vec![Vec::new(); columns];
    for ((column, found), values) in counts {
        by_column[column].push((found, values));
    }
    by_column
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rekey_domain::KeyId;

    use super::*;

    fn id(text: &str) -> ValueId {
        text.to_owned().into()
    }

    fn pass(left: &[&str]) -> PassToShow {
        PassToShow {
            settled: vec![KeyId::new(2)],
            left: vec![left.iter().map(|text| id(text)).collect::<HashSet<_>>()],
            fence: None,
            known: Vec::new(),
            standing: None,
            parts: None,
            trusts_code: false,
        }
    }

    fn counting<'a>(pass: &'a PassToShow, below: u64) -> Counting<'a> {
        let mut counting = Counting::new(Some(pass));
        counting.counts.insert((0, Found::Key(KeyId::new(2))), 10);
        counting
            .counts
            .insert((0, Found::Key(KeyId::new(1))), below);
        counting
    }

    #[test]
    fn values_are_looked_at_one_by_one_only_where_that_decides() {
        let pass = pass(&["a", "b"]);
        for (below, looks) in [(0, false), (1, true), (2, true), (3, false)] {
            let asked = counting(&pass, below).to_look_for().is_some();
            assert_eq!(asked, looks, "{below} below the target, 2 left");
        }
        assert!(Counting::new(None).to_look_for().is_none());
    }

    #[test]
    fn only_what_the_pass_left_counts_as_left() {
        let pass = pass(&["a", "b"]);
        let mut counting = counting(&pass, 2);
        let old = Found::Key(KeyId::new(1));
        assert!(counting.look(0, old, &id("a")));
        assert!(!counting.look(0, old, &id("c")));
        let columns = counting.into_columns(1);
        let counted = columns[0].iter().find(|counted| counted.found == old);
        assert_eq!(counted.map(|one| (one.values, one.left)), Some((2, 1)));
    }
}
