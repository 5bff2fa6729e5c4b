//! Protected columns: their name `source.table.column`, what binds a value to its row, how it is stored.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::{BindType, BindValue, KeyringName, NotOfType};

/// A column name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {found:?}: expected SOURCE.TABLE.COLUMN, such as clinic.patients.ssn")]
pub struct ColumnNameError {
    /// What was given.
    pub found: String,
}

/// A protected column as people write it: `source.table.column`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ColumnName {
    /// The source's name.
    pub source: String,
    /// The table's name in `rekey.toml`.
    pub table: String,
    /// The column.
    pub column: String,
}

impl ColumnName {
    /// Whether values of both columns are in the same rows, so that one statement writes them (rule 5).
    pub fn shares_rows_with(&self, other: &Self) -> bool {
        (&self.source, &self.table) == (&other.source, &other.table)
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.source, self.table, self.column)
    }
}

impl FromStr for ColumnName {
    type Err = ColumnNameError;

    fn from_str(text: &str) -> Result<Self, ColumnNameError> {
        let mut parts = text.splitn(3, '.');
        let mut part = || {
            parts
                .next()
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
        };
        match (part(), part(), part()) {
            (Some(source), Some(table), Some(column)) => Ok(Self {
                source,
                table,
                column,
            }),
            _ => Err(ColumnNameError {
                found: text.to_owned(),
            }),
        }
    }
}

impl TryFrom<String> for ColumnName {
    type Error = ColumnNameError;

    fn try_from(text: String) -> Result<Self, ColumnNameError> {
        text.parse()
    }
}

impl From<ColumnName> for String {
    fn from(name: ColumnName) -> Self {
        name.to_string()
    }
}

/// A name of the database as it stands between the dots of a default column id: its own dots, and
/// the signs that encode them, are percent-encoded, so that no two columns share an id.
pub fn id_part(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2E")
}

/// What of its row a value is bound to by associated data. Said for each column, without a default,
/// as it is for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBind", into = "RawBind")]
pub enum Bind {
    /// The row's primary key.
    Row,
    /// Nothing but the column itself.
    Column,
    /// These immutable columns of the row, in this order; never empty.
    Columns(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawBind {
    Word(String),
    Columns(Vec<String>),
}

impl TryFrom<RawBind> for Bind {
    type Error = String;

    fn try_from(raw: RawBind) -> Result<Self, String> {
        match raw {
            RawBind::Word(word) if word == "row" => Ok(Self::Row),
            RawBind::Word(word) if word == "column" => Ok(Self::Column),
            RawBind::Columns(columns)
                if !columns.is_empty() && columns.iter().all(|c| !c.is_empty()) =>
            {
                Ok(Self::Columns(columns))
            }
            _ => Err("expected \"row\", \"column\" or a list of column names".to_owned()),
        }
    }
}

impl From<Bind> for RawBind {
    fn from(bind: Bind) -> Self {
        match bind {
            Bind::Row => Self::Word("row".to_owned()),
            Bind::Column => Self::Word("column".to_owned()),
            Bind::Columns(columns) => Self::Columns(columns),
        }
    }
}

/// A bind that does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// More values or fewer than the column's `bind` names.
    #[error("{column} is bound to {expected} value(s) of its row; {found} given")]
    Count {
        /// The column.
        column: String,
        /// How many values its `bind` names.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A value that no row has.
    #[error("{column} is bound to {bind}: {problem}")]
    Value {
        /// The column.
        column: String,
        /// The column that it is bound to.
        bind: String,
        /// What was expected and found.
        problem: NotOfType,
    },
}

/// How ciphertext stands in the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextEncoding {
    /// As it is: `bytea`, BLOB.
    Binary,
    /// Standard base64 with padding, in a text column.
    Base64,
}

/// What our updates do to a table's triggers and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_triggers)]
pub enum Triggers {
    /// They fire, as on any update.
    Fire,
    /// They are suppressed for our updates, which takes a right of its own.
    Suppress,
}

fn no_triggers(text: &str) -> String {
    format!("expected \"fire\" or \"suppress\", found {text:?}")
}

/// What was said of a table whose updates have effects beyond its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnUpdate {
    /// What becomes of its UPDATE triggers and rules; None: it has none.
    pub triggers: Option<Triggers>,
    /// Its publications may send our updates on.
    pub publications_accepted: bool,
}

/// A protected column and everything needed to encrypt or decrypt a value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name.
    pub name: ColumnName,
    /// The explicit stable string that stands first in associated data; frozen at first use.
    pub column_id: String,
    /// The keyring whose primary key encrypts it.
    pub keyring: KeyringName,
    /// What of its row a value is bound to.
    pub bind: Bind,
    /// The columns that `bind` resolves to, in order: the primary key for [`Bind::Row`].
    pub bind_columns: Vec<String>,
    /// The types of these, as many; none: an older program protected the column, and it was not
    /// applied since.
    pub bind_types: Option<Vec<BindType>>,
    /// How ciphertext stands in the column.
    pub encoding: TextEncoding,
}

impl ColumnSpec {
    /// The bind values as they stand in the row: as many as the column's `bind` names, each converted to its column's
    /// type. Where the types are not known, as they were given.
    ///
    /// # Errors
    /// [`BindError`] says what was expected and found.
    pub fn fit_bind(&self, values: &[BindValue]) -> Result<Vec<BindValue>, BindError> {
        self.fit_each(values, BindType::fit)
    }

    /// The same for a value that is there already: how long a text may be is no matter then.
    ///
    /// # Errors
    /// As [`fit_bind`](Self::fit_bind).
    pub fn fit_bind_to_open(&self, values: &[BindValue]) -> Result<Vec<BindValue>, BindError> {
        self.fit_each(values, BindType::fit_to_open)
    }

    fn fit_each(
        &self,
        values: &[BindValue],
        fit: fn(BindType, &BindValue) -> Result<BindValue, NotOfType>,
    ) -> Result<Vec<BindValue>, BindError> {
        let (expected, found) = (self.bind_columns.len(), values.len());
        if expected != found {
            return Err(BindError::Count {
                column: self.name.to_string(),
                expected,
                found,
            });
        }
        let Some(types) = &self.bind_types else {
            return Ok(values.to_vec());
        };
        let fitted = values.iter().zip(types).zip(&self.bind_columns);
        let is_not = |problem, bind: &String| BindError::Value {
            column: self.name.to_string(),
            bind: bind.clone(),
            problem,
        };
        fitted
            .map(|((value, of), bind)| fit(*of, value).map_err(|problem| is_not(problem, bind)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_written_source_table_column() {
        let name: ColumnName = "clinic.patients.ssn".parse().unwrap();
        assert_eq!(name.to_string(), "clinic.patients.ssn");
        for bad in [
            "",
            "clinic",
            "clinic.patients",
            "clinic..ssn",
            ".patients.ssn",
        ] {
            assert!(bad.parse::<ColumnName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bind_has_three_forms_and_no_default() {
        let bind = |json: &str| serde_json::from_str::<Bind>(json);
        assert_eq!(bind("\"row\"").unwrap(), Bind::Row);
        assert_eq!(bind("\"column\"").unwrap(), Bind::Column);
        assert_eq!(
            bind("[\"uuid\"]").unwrap(),
            Bind::Columns(vec!["uuid".to_owned()])
        );
        for bad in ["\"\"", "\"rows\"", "[]", "[\"\"]", "null"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }
}
