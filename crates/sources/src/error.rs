//! What can go wrong at a source, what to do about it, and whether trying again may help.

use crate::RowKey;

/// A failed call to a source. Names tables, columns and rows, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The database cannot be opened or read right now. Retryable.
    #[error(
        "{database} is out of reach: {reason}; bring it back, the work goes on where it stopped"
    )]
    OutOfReach {
        /// The database, without its credentials.
        database: String,
        /// What was found.
        reason: String,
    },
    /// Someone else held its lock for too long. Retryable.
    #[error("{database} is busy: {waited_for} was not free in time{}", of_holder(held_by.as_deref()))]
    Busy {
        /// The database.
        database: String,
        /// What was waited for.
        waited_for: String,
        /// Who holds it, as far as our role may know.
        held_by: Option<String>,
    },
    /// The file has another name than the one that we were given.
    #[error(
        "{database} {how}: SQLite keeps what was written last in a file beside the name that it was opened by (-wal, -journal), so what the application writes by another name would not be seen, and writing by both destroys the file; {remedy}, so that the application and the url of the source name it alike"
    )]
    OtherName {
        /// The database.
        database: String,
        /// What was found.
        how: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// We may not write there.
    #[error(
        "{database} is read-only: give this process the right to write to the file and its directory, and drop mode=ro from the URL"
    )]
    ReadOnly {
        /// The database.
        database: String,
    },
    /// The server follows another one, or writes nothing. Retryable: it may be in the middle of a
    /// failover.
    #[error(
        "{database} is a standby, or takes no writes from us: the url of the source must name the primary, which alone can be written and counted; on the primary, see default_transaction_read_only of our role and the database"
    )]
    Standby {
        /// The database.
        database: String,
    },
    /// Our role lacks a right.
    #[error("{database} does not let us {what} {relation}: {remedy}")]
    NotAllowed {
        /// The database.
        database: String,
        /// The table or partition.
        relation: String,
        /// What we wanted to do.
        what: &'static str,
        /// The right it takes, as SQL.
        remedy: String,
    },
    /// A part of the table is gone or was written anew since its ranges were planned, or since we
    /// began to look at it. Retryable by whoever looks at the table anew.
    #[error("{part} of {relation} is gone or was written anew since it was planned; plan it again")]
    PartChanged {
        /// The table.
        relation: String,
        /// The part.
        part: String,
    },
    /// A setting of our sessions has damaged pages read as empty ones: rows would be missing without a word.
    #[error(
        "{setting} is on for our sessions at {database}, and damaged pages would count as empty ones: ALTER ROLE … RESET {setting} (or ALTER DATABASE, or ALTER SYSTEM), then start the workers again"
    )]
    HidesDamage {
        /// The database.
        database: String,
        /// The setting.
        setting: String,
    },
    /// The URL leads to another database than when the source was applied.
    #[error(
        "source {source_name} leads to {found}, and to {noted} when it was applied: say the url of that, and start the program again if it says another; or, if this database holds the same values, rekey sources accept {source_name}"
    )]
    AnotherDatabase {
        /// The source.
        source_name: String,
        /// What its database is known by.
        noted: String,
        /// What this one is known by.
        found: String,
    },
    /// Another table or column has taken the place of one that was protected, which may still hold values.
    #[error(
        "{relation}.{column} is not known to be the column that was protected: {what}; if its values were moved along, or are lost: rekey apply, which looks whether ciphertext is left behind; if it was renamed: rekey columns rename OLD NEW; if two tables exchanged their names: exchange their relations in rekey.toml, then rekey apply"
    )]
    Replaced {
        /// The table.
        relation: String,
        /// The column.
        column: String,
        /// What became of what was protected, as far as that is known.
        what: String,
    },
    /// A protected column's type was changed.
    #[error(
        "{relation}: column {column} is of type {found}; expected {expected}, as it was when it was protected: where its values were changed along, rekey columns rename SOURCE.TABLE.{column} SOURCE.TABLE.{column} takes the new type (the same name twice); else put the old type back"
    )]
    OtherType {
        /// The table.
        relation: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The type that it had.
        expected: &'static str,
    },
    /// A statement on a part named a table that is not there: the part itself, or one that code of its own
    /// speaks of. Retryable by whoever looks at the table anew.
    #[error("{database}: a statement on {part} found a table missing; look at it again")]
    UndefinedTable {
        /// The database.
        database: String,
        /// The part.
        part: String,
    },
    /// Code of the table's owner, in a trigger or in a function of an index, a check or a default, fails in our
    /// session.
    #[error(
        "{database}, {relation}: code of the table's own, as of a trigger or an index, names a table that is not there for our role (SQLSTATE 42P01): have it name its schema, and give our role the right; or, where it is a trigger, say triggers = \"suppress\" and apply"
    )]
    OwnCode {
        /// The database.
        database: String,
        /// The table or partition.
        relation: String,
    },
    /// Our update makes a trigger put off work until the commit, where nobody can check what it does.
    #[error(
        "{relation}: what our update sets off ({by}) puts off what it does until the transaction ends, behind every look at it (or the server does not count rows: track_counts); nothing was written. Have it act at once, or say triggers = \"suppress\" and apply"
    )]
    PutOff {
        /// The table or partition.
        relation: String,
        /// What fires.
        by: String,
    },
    /// Code of the table's owner runs in our sessions, and nobody said that it is to be trusted.
    #[error(
        "{relation}: code that is not the database's own runs in our session whenever the table is read or updated: {what}; it could show us what is not there: take it away, or say on_update = {{ triggers = \"fire\" }} if it is to be trusted like a trigger, and apply"
    )]
    RunsCode {
        /// The table in the database.
        relation: String,
        /// What calls what.
        what: String,
    },
    /// Transactions that were open may still write values that no census sees yet. Retryable once they end.
    #[error(
        "{database}: transactions that were open when the last encrypt lease ended still are ({who}); what they write is counted only after they end: commit or roll them back"
    )]
    OpenTransactions {
        /// The database.
        database: String,
        /// Which: by name where our role may know it, else by process.
        who: String,
    },
    /// The database's transactions are numbered otherwise than when the mark was taken: it was restored
    /// or replaced since. Retryable with a new mark.
    #[error(
        "{database} counts its transactions otherwise than it did: it was restored or replaced meanwhile; a new mark is taken"
    )]
    FenceLost {
        /// The database.
        database: String,
    },
    /// The disk of the database is full. Retryable; nothing of the transaction was written.
    #[error("the disk of {database} is full: free some space, the work goes on where it stopped")]
    DiskFull {
        /// The database.
        database: String,
    },
    /// No such table.
    #[error(
        "{database} has no table {relation}: if it was renamed, say what it is called now as its `relation` in rekey.toml, and rekey apply; else see that the url leads to the database meant"
    )]
    NoSuchTable {
        /// The database.
        database: String,
        /// The table asked for.
        relation: String,
    },
    /// No such column.
    #[error("table {relation} has no column {column}; it has {found}")]
    NoSuchColumn {
        /// The table.
        relation: String,
        /// The column asked for.
        column: String,
        /// The columns there are, separated by commas.
        found: String,
    },
    /// A view, a virtual table or a table of the database itself.
    #[error("{relation} is a {kind}: name the table that holds its rows instead")]
    NotATable {
        /// What was asked for.
        relation: String,
        /// What it is.
        kind: String,
    },
    /// A partition, or a table that inherits, whose rows are another server's.
    #[error(
        "{part}, a part of {relation}, is a foreign table: no rotation here would move its rows, which lie on another server; detach it and declare it in the source that it lies in, or declare the other parts as tables of their own"
    )]
    ForeignPart {
        /// The table.
        relation: String,
        /// The part.
        part: String,
    },
    /// A table that inherits, whose rows only the session that made it can read.
    #[error(
        "{part}, which inherits from {relation}, is a temporary table of another session: nobody else can read its rows; end that session or drop the table"
    )]
    TemporaryPart {
        /// The table.
        relation: String,
        /// The part.
        part: String,
    },
    /// A bind column whose values may be of any storage class, so that different values would be bound alike.
    #[error(
        "{relation}.{column} is of type {declared:?} and cannot bind values, as the number 31 and the text '31' in it would bind alike; create the table anew with the column declared INTEGER, TEXT or BLOB"
    )]
    CannotBind {
        /// The table.
        relation: String,
        /// The column.
        column: String,
        /// Its type as declared; empty if none was.
        declared: String,
    },
    /// The rows cannot be named by rowid.
    #[error("table {relation} has no rowid we can use: {reason}")]
    NoRowId {
        /// The table.
        relation: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The deadline passed in the source's own time; nothing of the open transaction was written.
    /// Retryable by whoever holds the work now.
    #[error(
        "writing to {relation} took longer than it was allowed to; what was not written stays as it was"
    )]
    DeadlinePassed {
        /// The table.
        relation: String,
    },
    /// A constraint or a trigger of the user's refused the new value; nothing of the open
    /// transaction was written.
    #[error("{relation}, {row}: the database refused the update: {rule}")]
    Refused {
        /// The table.
        relation: String,
        /// The row.
        row: RowKey,
        /// Which rule refused it, as far as its database says.
        rule: String,
    },
    /// A trigger or a rule of the user's changed what an update of ours wrote; the open transaction was
    /// rolled back, so what was there is there.
    #[error(
        "{relation}, {row}: {by} changed what an update of Rekey wrote, so the update was taken back and the value is what it was; have it leave protected columns as they are written{}", suppress(*.may_suppress)
    )]
    Rewritten {
        /// The table or partition.
        relation: String,
        /// The row.
        row: RowKey,
        /// What fires on updates there, by name: one of them.
        by: String,
        /// Whether its database can suppress triggers.
        may_suppress: bool,
    },
    /// An update fails together with what it sets off; nothing of the open transaction was written.
    #[error(
        "{relation}: an update of Rekey sets off {by}, and fails with that: {reason}; nothing was written. Have it let updates of protected columns through (AFTER UPDATE OF …, WHEN (…)){}", suppress(*.may_suppress)
    )]
    FailsWith {
        /// The table or partition.
        relation: String,
        /// What fires on updates there, by name: one of them.
        by: String,
        /// What the database says, in our words, with its code.
        reason: String,
        /// Whether its database can suppress triggers.
        may_suppress: bool,
    },
    /// A trigger or a rule of the user's changed or deleted other rows of a protected table; the open transaction was
    /// rolled back, so what was there is there.
    #[error(
        "{relation}: {by} {} when an update of Rekey fired it, so the update was taken back: what became of their protected values nobody could tell. Have it leave such rows alone where only protected columns change (AFTER UPDATE OF …, WHEN (…)){}", change.of(of), suppress(*.may_suppress)
    )]
    ChangesOthers {
        /// The table or partition that was written to.
        relation: String,
        /// What fires on updates there, by name: one of them.
        by: String,
        /// The table or partition whose rows were changed.
        of: String,
        /// What became of it.
        change: OtherChange,
        /// Whether its database can suppress triggers.
        may_suppress: bool,
    },
    /// Old or new value is of a type that cannot be compared or stored; a defect of the caller.
    #[error(
        "{relation}.{column}, {row}: only text or bytes are replaced, and only by what the column's encoding says"
    )]
    NotWritable {
        /// The table.
        relation: String,
        /// The column.
        column: String,
        /// The row.
        row: RowKey,
    },
    /// A pooler gives our sessions other connections each time.
    #[error("{database}: {}", rekey_domain::SHARED_SESSIONS)]
    Pooled {
        /// The database.
        database: String,
    },
    /// No implementation for this kind of database.
    #[error(
        "cannot open a {scheme:?} database: expected a URL such as postgres://user@host/clinic or sqlite:///var/lib/clinic.db"
    )]
    UnknownScheme {
        /// What stands before the first colon of the URL; empty if there is none.
        scheme: String,
    },
    /// A URL that names no database.
    #[error(
        "the URL of the source {problem}: expected such as postgres://user@host/clinic or sqlite:///var/lib/clinic.db"
    )]
    BadUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The database cannot read what it stored; a person has to restore it.
    #[error(
        "{database}{}: {reason} ({code}); restore what is damaged from a backup, and look at the disk that it was on",
        of_table(relation)
    )]
    Damaged {
        /// The database.
        database: String,
        /// The table, or `-`.
        relation: String,
        /// What of it.
        reason: String,
        /// What the database says, as a code.
        code: String,
    },
    /// Anything else the database says; a person has to look.
    #[error("{database}{}: {reason}", of_table(relation))]
    Database {
        /// The database.
        database: String,
        /// The table, or `-`.
        relation: String,
        /// What kind of failure, and its code.
        reason: String,
    },
}

/// Nothing where the database as a whole was asked.
fn of_table(relation: &str) -> String {
    match relation {
        "-" => String::new(),
        relation => format!(", table {relation}"),
    }
}

fn of_holder(held_by: Option<&str>) -> String {
    match held_by {
        Some(who) => format!(" (held by {who}); the work goes on when they end"),
        None => "; look for a long transaction of the application if this stays".to_owned(),
    }
}

/// What the user's own code changed beside the rows that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherChange {
    /// Rows were changed or deleted, so many.
    Rows(u64),
    /// All rows are gone at once, or columns are others; how many rows that concerns nobody counted.
    Emptied,
    /// The table is gone.
    Dropped,
}

impl OtherChange {
    fn of(self, table: &str) -> String {
        match self {
            Self::Rows(rows) => format!("changed {rows} other row(s) of {table}"),
            Self::Emptied => format!("emptied {table} or changed its columns"),
            Self::Dropped => format!("dropped {table}"),
        }
    }
}

/// What else helps, where a database can do that.
fn suppress(may: bool) -> &'static str {
    match may {
        true => ", or say triggers = \"suppress\" for the table in rekey.toml and apply",
        false => "",
    }
}

impl SourceError {
    /// Whether the same call may succeed later without anyone changing configuration or schema.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::OutOfReach { .. }
                | Self::Busy { .. }
                | Self::DiskFull { .. }
                | Self::Standby { .. }
                | Self::PartChanged { .. }
                | Self::UndefinedTable { .. }
                | Self::OpenTransactions { .. }
                | Self::FenceLost { .. }
                | Self::DeadlinePassed { .. }
                // Its session ends by itself, as a rule.
                | Self::TemporaryPart { .. }
        )
    }

    /// Whether every row of the table would meet it, until a person mends it.
    pub fn is_of_every_row(&self) -> bool {
        matches!(
            self,
            // What a trigger made of one row, it makes of the next.
            Self::Rewritten { .. }
                | Self::FailsWith { .. }
                | Self::ChangesOthers { .. }
                | Self::PutOff { .. }
                | Self::Replaced { .. }
                | Self::OtherType { .. }
                | Self::OwnCode { .. }
                | Self::RunsCode { .. }
                | Self::AnotherDatabase { .. }
                | Self::HidesDamage { .. }
                // A damaged table stays damaged until it is restored. A single damaged value is no error.
                | Self::Damaged { .. }
                | Self::NotAllowed { .. }
                | Self::OtherName { .. }
                | Self::ReadOnly { .. }
                | Self::NoSuchTable { .. }
                | Self::NoSuchColumn { .. }
                | Self::NotATable { .. }
                | Self::ForeignPart { .. }
                | Self::CannotBind { .. }
                | Self::NoRowId { .. }
                | Self::Pooled { .. }
                | Self::UnknownScheme { .. }
                | Self::BadUrl { .. }
        )
    }
}
