//! What to read, write and count: a part of a table, the columns to move and those that bind them; and the rights
//! that this takes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use rekey_domain::{KeyId, PartId, Range, TextEncoding, Triggers};

use crate::ValueId;

/// A protected column of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadColumn {
    /// The column in the database.
    pub name: String,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// The key ids at or above the target; ciphertext under them, as far as its form tells, is left
    /// where it is. Empty: every value is read.
    pub settled: Vec<KeyId>,
}

/// One range of a part of a table, and what to read of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadQuery {
    /// The table in the database, as SQL would name it: `patients`, `main.patients`, `public."Patients"`.
    pub relation: String,
    /// The part.
    pub part: PartId,
    /// The range.
    pub range: Range,
    /// The columns to move. A row is read if one of them is neither NULL nor settled.
    pub columns: Vec<ReadColumn>,
    /// The columns that bind them, each once.
    pub bind_columns: Vec<String>,
    /// Whether code of the table's owner may run in our session meanwhile: a person said so.
    pub trusts_code: bool,
}

/// What one does with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRights {
    /// The table in the database.
    pub relation: String,
    /// The columns that are read.
    pub read: Vec<String>,
    /// The columns that are written.
    pub written: Vec<String>,
    /// What becomes of the table's UPDATE triggers and rules.
    pub triggers: Triggers,
}

/// A column to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CensusColumn {
    /// The column in the database.
    pub name: String,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// What counts as ciphertext.
    pub by: CountedBy,
}

/// What a census takes for ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedBy {
    /// Values with the complete form of ciphertext: what can be opened.
    Form,
    /// Values that begin as ciphertext: they may have been some, and are lost with their key. Other spellings count as
    /// in [`AnyForm`](Self::AnyForm).
    Start,
    /// Values at least as long as ciphertext, in any spelling: as bytes, in base64, in hex, text as bytes, bytes as
    /// text. No rotation could open them, and they are lost with their key.
    AnyForm,
}

/// What a census shows of a pass over the rows, beside counting.
#[derive(Debug, Clone, Default)]
pub struct PassToShow {
    /// The key ids at or above the target.
    pub settled: Vec<KeyId>,
    /// What the pass had to leave of each column, in their order.
    pub left: Vec<HashSet<ValueId>>,
    /// The parts that the pass read, each in one form. Every part that has rows now must be among them, and each of
    /// them must still exist. None: any parts will do.
    pub parts: Option<Vec<PartId>>,
    /// Values to look for wherever they are now; also holds what was seen of them and of `left`.
    pub standing: Option<Arc<Standing>>,
    /// What each column must be, in their order ([`TableShape::identity`](crate::TableShape::identity)): a column that
    /// took its name does not count for it. Empty or none: any column of that name.
    pub known: Vec<Option<String>>,
    /// Whether code of the table's owner may run in our session meanwhile: a person said so.
    pub trusts_code: bool,
    /// From [`Source::fence`](crate::Source::fence): transactions that were open then must have ended.
    pub fence: Option<String>,
}

/// Values in quarantine that a pass did not meet, by their starts: a row that moves while it is read may be
/// missed, so that only who looks at all rows as of one moment can say that a value is gone.
#[derive(Debug, Default)]
pub struct Standing {
    /// Of each column.
    wanted: Vec<HashSet<String>>,
    /// What of each column does not count, where it is.
    opened: Vec<HashSet<ValueId>>,
    /// How many values of a column have each start: an application may have copied one.
    found: Mutex<HashMap<(usize, String), u64>>,
    /// Which of the values that a pass left were seen where it left them.
    left: Mutex<HashSet<(usize, ValueId)>>,
}

impl Standing {
    /// Those of each column, as [`ValueId::start`] names them, wherever they are but where the pass opened them.
    pub fn new(wanted: Vec<HashSet<String>>, opened: Vec<HashSet<ValueId>>) -> Self {
        Self {
            wanted,
            opened,
            found: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Whether there is any to look for.
    pub fn is_empty(&self) -> bool {
        self.wanted.iter().all(HashSet::is_empty)
    }

    /// How many values of a column with this start the last census saw, without those that the pass opened.
    pub fn times(&self, column: usize, start: &str) -> u64 {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.get(&(column, start.to_owned()));
        found.copied().unwrap_or_default()
    }

    /// The values that the pass left of a column and the last census saw in their places; complete if the census met no
    /// other value below the target.
    pub fn left(&self, column: usize) -> HashSet<ValueId> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let of_column = left.iter().filter(|(of, _)| *of == column);
        of_column.map(|(_, id)| id.clone()).collect()
    }

    /// A census begins.
    pub(crate) fn forget(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.clear();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.clear();
    }

    pub(crate) fn see_left(&self, column: usize, id: &ValueId) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.insert((column, id.clone()));
    }

    pub(crate) fn see(&self, column: usize, id: &ValueId) {
        let Some(start) = id.start() else { return };
        if self.wanted[column].contains(start) && !self.opened[column].contains(id) {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            *found.entry((column, start.to_owned())).or_default() += 1;
        }
    }
}
