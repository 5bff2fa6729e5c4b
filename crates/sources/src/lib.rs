//! Protected columns of a user's database: shape, ranges, reading, compare-and-swap, census.
//!
//! Everything goes through the trait [`Source`]; [`open`] picks the implementation by the URL.
//! A source never decrypts and never changes anything but the columns it is told to write, and of
//! those only values that are still what was read.
//!
//! Values, bind values and what a database says about them are PHI: no error, log line or `Debug`
//! output of this crate holds one. Tables and columns are named, rows by their places; a row's own name
//! is given to who asks for its values, and shown by nothing.

mod census;
mod embedded;
mod error;
mod identity;
mod inspect;
mod place;
mod postgres;
mod query;
mod row;
mod shape;
mod source;
mod sqlite;
mod start;
mod update;
mod value;

use std::{num::NonZeroU32, sync::Arc};

pub use census::Counted;
pub use error::{OtherChange, SourceError};
pub use identity::ValueId;
pub use inspect::{
    CandidateTable, ColumnMeasure, Inspect, Measure, NotLookedAt, Sample, Spelling, TableMeasure,
    TextColumn, TextForm, TextTable, Texts,
};
pub use postgres::{GRANT_SUPPRESS, grant_of_lag, grants};
pub use query::{
    CensusColumn, CountedBy, PassToShow, ReadColumn, ReadQuery, Standing, TableRights,
};
pub use row::{Page, RowKey, SourceRow};
pub use shape::{ColumnShape, TableShape};
pub use source::Source;
pub use update::{ColumnUpdate, Deadline, PartUpdates, RowUpdate, WriteOutcome, WriteTarget};
pub use value::{Damage, StoredValue};

/// Sessions that a process keeps at a source where nobody says otherwise.
pub const USUAL_CONNECTIONS: NonZeroU32 = NonZeroU32::new(8).expect("it is not zero");

/// Opens the database that `url` names: `postgres://user:password@host/database?sslmode=verify-full`
/// (PostgreSQL 14 or later, the primary), or `sqlite:///absolute/path.db`, `sqlite:relative.db`,
/// with `?mode=ro` to only count and read.
///
/// Open a database once in a process and share it: its writers take turns, so that the application
/// gets in between.
///
/// # Errors
/// [`SourceError::UnknownScheme`] and [`SourceError::BadUrl`] for a URL nobody can open,
/// [`SourceError::OutOfReach`] when the database is not there now.
pub async fn open(url: &str) -> Result<Arc<dyn Source>, SourceError> {
    open_with(url, USUAL_CONNECTIONS).await
}

/// The same with at most so many sessions to a PostgreSQL server; calls wait for a free one. A census takes up to three
/// more of its own.
///
/// # Errors
/// As [`open`].
pub async fn open_with(url: &str, connections: NonZeroU32) -> Result<Arc<dyn Source>, SourceError> {
    if rekey_domain::may_show_password(url) {
        return Err(SourceError::BadUrl {
            problem: rekey_domain::PASSWORD_NOT_ENCODED,
        });
    }
    match scheme(url) {
        "postgres" | "postgresql" => Ok(Arc::new(
            postgres::PostgresSource::open(url, connections).await?,
        )),
        "sqlite" => Ok(Arc::new(sqlite::SqliteSource::open(url).await?)),
        scheme => Err(SourceError::UnknownScheme {
            scheme: scheme.to_owned(),
        }),
    }
}

/// Whether both URLs lead to one place: host, port and database, or a file.
pub fn is_same_place(url: &str, other: &str) -> bool {
    let place = |at| match scheme(at) {
        "postgres" | "postgresql" => postgres::place_of(at),
        "sqlite" => sqlite::place_of(at),
        _ => None,
    };
    place(url).is_some_and(|here| Some(here) == place(other))
}

/// What stands before the first colon; nothing else of a URL is ever shown, it may hold a password.
fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}
