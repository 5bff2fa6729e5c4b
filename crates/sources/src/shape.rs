//! A table's shape, as the database's catalogue says.

use rekey_domain::{BindType, TextEncoding};

/// What the catalogue says of a table, its partitions included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// Schema and name: `public.patients`, `main.patients`.
    pub full_name: String,
    /// The same as `relation` takes it: it names this table whatever a search path says.
    pub relation: String,
    /// The same as it stands in default column ids, see [`id_part`](rekey_domain::id_part).
    pub id_name: String,
    /// What PostgreSQL knows the table by, whatever it is called; SQLite knows tables by their names.
    pub oid: Option<i64>,
    /// What tells the table from another of the same name. On PostgreSQL its number, for good. On SQLite where it
    /// begins in the file together with the schema, so that every change of the schema makes it another.
    pub known_by: String,
    /// The physical heaps that its rows lie in now, by the names of their parts. A heap of two tables
    /// is moved by both.
    pub heaps: Vec<String>,
    /// The columns of the declared primary key, in its order. Empty: it has none, and nothing that
    /// stays the same names its rows.
    pub primary_key: Vec<String>,
    /// All columns, in their order.
    pub columns: Vec<ColumnShape>,
    /// Columns that a foreign key ties to another table, whichever of the two refers to the other, each
    /// with what the foreign key is called.
    pub foreign_keys: Vec<(String, String)>,
    /// The triggers and rules that an update of the table may fire; ours are updates too.
    pub update_triggers: Vec<String>,
    /// Those of them that fire even where triggers are suppressed.
    pub always_triggers: Vec<String>,
    /// Other code of the table's owner that runs in our sessions, in each case with what calls it.
    pub own_code: Vec<String>,
    /// The publications that send updates of the table on.
    pub publications: Vec<String>,
    /// Its heaps that are published without a replica identity: the database refuses to update them.
    pub unidentified: Vec<String>,
    /// The columns that decide in which of its partitions a row lies.
    pub partition_key: Vec<String>,
}

impl TableShape {
    /// Whether both are of one table of one database.
    pub fn is_of_the_same_table(&self, other: &Self) -> bool {
        match (self.oid, other.oid) {
            (Some(oid), Some(other)) => oid == other,
            _ => self.heaps == other.heaps,
        }
    }

    /// What tells a column from another of its name; none: there is no such column.
    pub fn identity(&self, column: &str) -> Option<String> {
        let column = self.column(column)?;
        Some(format!("{}.{}", self.known_by, column.number))
    }

    /// The column called `name`, by the database's own rules of upper and lower case.
    pub fn column(&self, name: &str) -> Option<&ColumnShape> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| {
            let mut columns = self.columns.iter();
            columns.find(|column| column.name.eq_ignore_ascii_case(name))
        })
    }
}

/// What the catalogue says of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// Its number in the table: another column that takes its name has another.
    pub number: i64,
    /// Its type as declared; empty if none was.
    pub declared_type: String,
    /// Whether it is declared NOT NULL.
    pub not_null: bool,
    /// How ciphertext would stand in it. None: it can hold none.
    pub encoding: Option<TextEncoding>,
    /// What its values are, where they can bind a ciphertext to its row. None: they cannot.
    pub bind_type: Option<BindType>,
}

impl ColumnShape {
    /// Whether its values can bind a ciphertext to its row.
    pub fn can_bind(&self) -> bool {
        self.bind_type.is_some()
    }
}
