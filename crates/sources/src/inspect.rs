//! Looking at a source without writing: how large tables are, and where ciphertext stands.

use async_trait::async_trait;
use rekey_domain::{Basis, Found, Storage};

use crate::{CensusColumn, SourceError};

/// What a person wants to know of a source before a rotation. Nothing of it writes; all of it but
/// [`Measure::Count`] is as cheap on a large table as on a small one.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// How large a table is, and its values in these columns.
    ///
    /// # Errors
    /// As any call of [`Source`](crate::Source).
    async fn measure(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        how: Measure,
    ) -> Result<TableMeasure, SourceError>;

    /// Every column of the database that could hold ciphertext, table by table; the database's own
    /// tables left out. A column of a view is that of its table, and not listed.
    ///
    /// # Errors
    /// As any call.
    async fn candidates(&self) -> Result<Vec<CandidateTable>, SourceError>;

    /// The database's identity, the same however it is reached: on PostgreSQL the numbers of its cluster and of itself,
    /// on SQLite its file. None where our role may not ask.
    ///
    /// # Errors
    /// As any call.
    async fn database_id(&self) -> Result<Option<String>, SourceError>;

    /// What tells the database from every other that can be reached at this moment; it may be another
    /// tomorrow. Takes no right.
    ///
    /// # Errors
    /// As any call.
    async fn instance(&self) -> Result<String, SourceError>;

    /// What the table of this [`oid`](crate::TableShape) is called now, as SQL; None if there is none.
    ///
    /// # Errors
    /// As any call.
    async fn name_of(&self, oid: i64) -> Result<Option<String>, SourceError>;

    /// The present names of the column with this [`identity`](crate::TableShape::identity), and of its table as SQL.
    /// None if there is no such column, and always on SQLite, which does not number columns.
    ///
    /// # Errors
    /// As any call.
    async fn column_of(&self, identity: &str) -> Result<Option<(String, String)>, SourceError>;

    /// The heaps that the table's rows lie in now, by name, as SQL. Takes no right on any of them.
    ///
    /// # Errors
    /// As any call.
    async fn part_names(&self, relation: &str) -> Result<Vec<String>, SourceError>;

    /// What stands in these columns, in about `rows` rows from all over the table.
    ///
    /// # Errors
    /// As any call.
    async fn sample(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        rows: u32,
    ) -> Result<Sample, SourceError>;

    /// Every column of the database whose text could hold ciphertext among other things, table by table.
    ///
    /// # Errors
    /// As any call.
    async fn text_tables(&self) -> Result<Vec<TextTable>, SourceError>;

    /// Which keys are named by ciphertext in the text of these columns, in about `rows` rows from all over
    /// the table; what is ciphertext as a whole left out.
    ///
    /// # Errors
    /// As any call.
    async fn sample_texts(
        &self,
        relation: &str,
        columns: &[TextColumn],
        rows: u32,
    ) -> Result<Texts, SourceError>;
}

/// How a table is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// By the database's statistics, and a few rows where it has none.
    Estimate,
    /// By reading every row, range by range.
    Count,
}

/// How large a table is.
#[derive(Debug, Clone, PartialEq)]
pub struct TableMeasure {
    /// How an update is written.
    pub storage: Storage,
    /// Its heaps.
    pub parts: u64,
    /// Its rows.
    pub rows: u64,
    /// How rows and values were found.
    pub basis: Basis,
    /// Bytes of a row, header included.
    pub row_bytes: u64,
    /// Bytes of the places where rows lie.
    pub heap_bytes: u64,
    /// Bytes of wide values that lie apart.
    pub toast_bytes: u64,
    /// Bytes of all indexes.
    pub index_bytes: u64,
    /// How many indexes each part has.
    pub indexes: u64,
    /// The columns, in the order asked for.
    pub columns: Vec<ColumnMeasure>,
    /// Updates so far, and how many of them touched no index (HOT); None where there is no such thing.
    pub updates: Option<(u64, u64)>,
    /// Replication slots of the database, which keep what is written until it was fetched.
    pub replication_slots: Vec<String>,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMeasure {
    /// Values that are not NULL.
    pub values: u64,
    /// Their bytes; those that lie apart count as what points to them, unless all were counted.
    pub bytes: u64,
    /// The indexes that the column is part of.
    pub indexes: Vec<String>,
}

/// A table with columns that could hold ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateTable {
    /// Its name, as `relation` has it.
    pub relation: String,
    /// Schema and name, as [`TableShape::full_name`](crate::TableShape).
    pub full_name: String,
    /// Its columns, once for each encoding that ciphertext could stand in.
    pub columns: Vec<CensusColumn>,
    /// The columns that our role may not read.
    pub unreadable: Vec<String>,
}

/// What a look at some of the rows found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Rows that were looked at.
    pub rows: u64,
    /// Whether these are all.
    pub whole: bool,
    /// What the values of each column are, in the order of [`Found`]; NULLs are not counted.
    pub counts: Vec<Vec<(Found, u64)>>,
}

/// A table with columns whose text could hold ciphertext: JSON, arrays, text of any other kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTable {
    /// Its name, as `relation` has it.
    pub relation: String,
    /// Schema and name, as [`TableShape::full_name`](crate::TableShape).
    pub full_name: String,
    /// Its columns that can be looked at.
    pub columns: Vec<TextColumn>,
    /// Those that cannot.
    pub not_looked_at: Vec<NotLookedAt>,
}

/// A column, and how its text is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumn {
    /// Its name.
    pub name: String,
    /// How.
    pub form: TextForm,
}

/// How the text of a value is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// It is text.
    Text,
    /// It is bytes, which may be those of text.
    Bytes,
    /// As the database writes it out.
    Output,
}

/// A column that could hold ciphertext, and is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLookedAt {
    /// Its name.
    pub column: String,
    /// Its type as declared.
    pub declared_type: String,
    /// Why not.
    pub why: String,
}

/// How ciphertext is spelled in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spelling {
    /// In base64, of either alphabet.
    Base64,
    /// In hex.
    Hex,
}

/// What a look at the text of some rows found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// Rows that were looked at.
    pub rows: u64,
    /// Whether these are all.
    pub whole: bool,
    /// Of each column: in how many rows something names which key, ours or not.
    pub counts: Vec<Vec<((Spelling, rekey_domain::KeyId), u64)>>,
}

/// Where to look between `first` and `last`: at most `places` ranges of at most `each`, spread from start to end and
/// never overlapping.
pub(crate) fn spread(first: i64, last: i64, places: i64, each: i64) -> Vec<rekey_domain::Range> {
    let span = i128::from(last) - i128::from(first) + 1;
    let (places, each) = (i128::from(places.max(1)), i128::from(each.max(1)));
    let at = |offset: i128| i64::try_from(i128::from(first) + offset).unwrap_or(last);
    if span <= places * each {
        return vec![rekey_domain::Range { first, last }];
    }
    let starts = (0..places).map(|place| match places {
        1 => 0,
        _ => (span - each) * place / (places - 1),
    });
    let range = |start| rekey_domain::Range {
        first: at(start),
        last: at(start + each - 1),
    };
    starts.map(range).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_small_is_looked_at_whole() {
        let whole = rekey_domain::Range { first: -3, last: 4 };
        assert_eq!(spread(-3, 4, 2, 4), [whole]);
    }

    proptest! {
        #[test]
        fn places_are_in_order_apart_and_from_end_to_end(
            first in i64::MIN..1 << 40, span in 0..1i64 << 40, places in 2i64..20, each in 1i64..1000,
        ) {
            let last = first + span;
            let ranges = spread(first, last, places, each);
            prop_assert_eq!(ranges[0].first, first);
            prop_assert_eq!(ranges[ranges.len() - 1].last, last);
            prop_assert!(ranges.iter().all(|range| range.first <= range.last));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
            let looked: i64 = ranges.iter().map(|range| range.last - range.first + 1).sum();
            prop_assert!(looked <= places * each);
        }
    }
}
