//! A table as the catalogue has it now, and the names by which SQL may speak of it.

use rekey_domain::{PartId, TextEncoding, id_part};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    affinity::{Affinity, BindClass},
    faults::Located,
    form, pragma,
    sql::quote,
};
use crate::{ColumnShape, SourceError, TableShape, place::Place};

/// SQLite's names for the rowid; a column of the same name hides one.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// The kinds of tables that hold rows, as SQLite names them. A "shadow" table is one that is called like
/// a part of a virtual table, whoever made it.
const WITH_ROWS: [&str; 2] = ["table", "shadow"];
/// Those kinds that are no part of another table.
const OWN: [&str; 1] = ["table"];

/// A table with rowids.
pub(super) struct Table {
    pub(super) place: Place,
    /// Its name in the catalogue.
    pub(super) name: String,
    /// Its shape, triggers aside.
    pub(super) shape: TableShape,
    /// The whole table as one part: while nobody changes the schema, its rows keep their rowids and its columns their
    /// names.
    pub(super) part: PartId,
    /// None only where a table is just looked at.
    rowid: Option<&'static str>,
    strict: bool,
}

struct Kind {
    name: String,
    kind: String,
    without_rowid: bool,
    strict: bool,
}

impl Kind {
    /// Whether it is of these kinds, and none of SQLite's own, whose names nobody can give to another.
    fn is_one_of(&self, kinds: &[&str]) -> bool {
        let name = self.name.to_ascii_lowercase();
        kinds.contains(&self.kind.as_str()) && !name.starts_with("sqlite_")
    }
}

impl Table {
    /// Looks the table up, and refuses what has no rows of its own or no rowid.
    pub(super) async fn find(
        connection: &mut SqliteConnection,
        place: Place,
    ) -> Result<Self, SourceError> {
        let (kind, shape) = look_up(connection, &place, &OWN).await?;
        let rowid = Some(rowid_name(&kind, &shape, &place)?);
        Ok(Self {
            part: part(&kind, &shape),
            place,
            strict: kind.strict,
            name: kind.name,
            shape,
            rowid,
        })
    }

    /// The same for what is only looked at: a table without rowids has rows too, and so has one that is
    /// called like a part of a virtual table.
    pub(super) async fn find_to_look_at(
        connection: &mut SqliteConnection,
        place: Place,
    ) -> Result<Self, SourceError> {
        let (kind, shape) = look_up(connection, &place, &WITH_ROWS).await?;
        let rowid = rowid_name(&kind, &shape, &place).ok();
        Ok(Self {
            part: part(&kind, &shape),
            place,
            strict: kind.strict,
            name: kind.name,
            shape,
            rowid,
        })
    }

    /// Whether its rows can be named by rowid.
    pub(super) fn has_rowid(&self) -> bool {
        self.rowid.is_some()
    }

    /// The table in a FROM or UPDATE, called `t` from there on. Rows are looked up by rowid or all of them are
    /// seen: an index may be damaged, and lack some.
    pub(super) fn sql(&self) -> String {
        format!("\"main\".{} AS t NOT INDEXED", quote(&self.name))
    }

    /// Sees that the table is what a part was planned of.
    ///
    /// # Errors
    /// [`SourceError::PartChanged`].
    pub(super) fn check_part(&self, part: &PartId) -> Result<(), SourceError> {
        if *part == self.part {
            return Ok(());
        }
        Err(SourceError::PartChanged {
            relation: self.place.relation.clone(),
            part: part.name.clone(),
        })
    }

    /// The rowid in an expression.
    pub(super) fn rowid(&self) -> String {
        let name = self.rowid.expect("whoever asks found a table with rowids");
        format!("t.{name}")
    }

    /// A column in an expression. Always with its table: SQLite takes a quoted name that it does not
    /// know for a string, but not behind a dot.
    pub(super) fn column(&self, name: &str) -> Result<String, SourceError> {
        Ok(format!("t.{}", self.bare_column(name)?))
    }

    /// A column where SQL allows no table before it.
    pub(super) fn bare_column(&self, name: &str) -> Result<String, SourceError> {
        Ok(quote(&self.shape_of(name)?.name))
    }

    /// Sees that the column still holds ciphertext in this encoding by its declared type.
    ///
    /// # Errors
    /// [`SourceError::OtherType`].
    pub(super) fn check_encoding(
        &self,
        name: &str,
        encoding: TextEncoding,
    ) -> Result<(), SourceError> {
        let column = self.shape_of(name)?;
        if column.encoding == Some(encoding) {
            return Ok(());
        }
        Err(SourceError::OtherType {
            relation: self.place.relation.clone(),
            column: name.to_owned(),
            found: column.declared_type.clone(),
            expected: match encoding {
                TextEncoding::Binary => "BLOB",
                TextEncoding::Base64 => "TEXT",
            },
        })
    }

    /// The storage class of a bind column's values.
    pub(super) fn bind_class(&self, name: &str) -> Result<BindClass, SourceError> {
        let declared = &self.shape_of(name)?.declared_type;
        let class = BindClass::of(declared, self.strict);
        class.ok_or_else(|| SourceError::CannotBind {
            relation: self.place.relation.clone(),
            column: name.to_owned(),
            declared: declared.clone(),
        })
    }

    fn shape_of(&self, name: &str) -> Result<&ColumnShape, SourceError> {
        let column = self.shape.column(name);
        column.ok_or_else(|| SourceError::NoSuchColumn {
            relation: self.place.relation.clone(),
            column: name.to_owned(),
            found: self.column_names(),
        })
    }

    fn column_names(&self) -> String {
        let names = self.shape.columns.iter().map(|column| column.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }
}

async fn look_up(
    connection: &mut SqliteConnection,
    place: &Place,
    wanted: &[&str],
) -> Result<(Kind, TableShape), SourceError> {
    pragma::read_schema(connection).await.at(place)?;
    let kind = kind(connection, place, wanted).await?;
    let form = form::of(connection, &kind.name, place).await?;
    let shape = shape(connection, &kind, form, place).await?;
    Ok((kind, shape))
}

fn part(kind: &Kind, shape: &TableShape) -> PartId {
    PartId {
        name: kind.name.clone(),
        form: format!("rowid/{}", shape.known_by),
    }
}

/// The table's own name. Our connections see one database, `main`; anything else before a dot is
/// part of the name.
fn table_name(relation: &str) -> &str {
    match relation.split_once('.') {
        Some((schema, name)) if schema.eq_ignore_ascii_case("main") => name,
        _ => relation,
    }
}

/// In the spelling of `relation`: the name is frozen in associated data, and SQLite ignores case.
fn full_name(relation: &str) -> String {
    if relation.contains('.') {
        relation.to_owned()
    } else {
        format!("main.{relation}")
    }
}

/// The names of the tables that hold rows of the user's, in order.
pub(super) async fn names(
    connection: &mut SqliteConnection,
    place: &Place,
) -> Result<Vec<String>, SourceError> {
    pragma::read_schema(connection).await.at(place)?;
    let rows = pragma::of_all(connection, "table_list").await.at(place)?;
    let kinds = rows.iter().map(kind_of).collect::<Result<Vec<_>, _>>();
    let mut kinds = kinds.at(place)?;
    kinds.retain(|kind| kind.is_one_of(&WITH_ROWS));
    let mut names: Vec<_> = kinds.into_iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    Ok(names)
}

async fn kind(
    connection: &mut SqliteConnection,
    place: &Place,
    wanted: &[&str],
) -> Result<Kind, SourceError> {
    let found = pragma::of(connection, "table_list", table_name(&place.relation)).await;
    let found = found.and_then(|rows| rows.first().map(kind_of).transpose());
    let found = found.at(place)?.ok_or_else(|| SourceError::NoSuchTable {
        database: place.database.to_string(),
        relation: place.relation.clone(),
    })?;
    refuse_what_is_no_table(found, place, wanted)
}

fn kind_of(row: &SqliteRow) -> Result<Kind, sqlx::Error> {
    Ok(Kind {
        name: row.try_get("name")?,
        kind: row.try_get("type")?,
        without_rowid: row.try_get("wr")?,
        strict: row.try_get("strict")?,
    })
}

fn refuse_what_is_no_table(
    found: Kind,
    place: &Place,
    wanted: &[&str],
) -> Result<Kind, SourceError> {
    let kind = match found.kind.as_str() {
        _ if found.is_one_of(wanted) => return Ok(found),
        "table" => "table of SQLite's own".to_owned(),
        "view" => "view".to_owned(),
        kind => format!("{kind} table"),
    };
    Err(SourceError::NotATable {
        relation: place.relation.clone(),
        kind,
    })
}

async fn shape(
    connection: &mut SqliteConnection,
    kind: &Kind,
    form: String,
    place: &Place,
) -> Result<TableShape, SourceError> {
    let rows = pragma::of(connection, "table_xinfo", &kind.name).await;
    let rows = rows.at(place)?;
    let columns = rows.iter().map(|row| column(row, kind.strict)).collect();
    Ok(TableShape {
        full_name: full_name(&place.relation),
        relation: place.relation.clone(),
        id_name: format!("main.{}", id_part(table_name(&place.relation))),
        oid: None,
        known_by: form,
        heaps: vec![kind.name.clone()],
        primary_key: primary_key(&rows).at(place)?,
        columns: Result::<_, sqlx::Error>::at(columns, place)?,
        foreign_keys: Vec::new(),
        update_triggers: Vec::new(),
        always_triggers: Vec::new(),
        own_code: Vec::new(),
        publications: Vec::new(),
        unidentified: Vec::new(),
        partition_key: Vec::new(),
    })
}

fn column(row: &SqliteRow, strict: bool) -> Result<ColumnShape, sqlx::Error> {
    let declared_type: String = row.try_get("type")?;
    let encoding = Affinity::of(&declared_type, strict).encoding();
    let bind_type = BindClass::of(&declared_type, strict).map(BindClass::bind_type);
    // What SQLite computes can be neither written nor known before the insert.
    let plain = row.try_get::<i64, _>("hidden")? == 0;
    Ok(ColumnShape {
        name: row.try_get("name")?,
        number: row.try_get("cid")?,
        declared_type,
        not_null: row.try_get("notnull")?,
        encoding: encoding.filter(|_| plain),
        bind_type: bind_type.filter(|_| plain),
    })
}

fn primary_key(rows: &[SqliteRow]) -> Result<Vec<String>, sqlx::Error> {
    let place_and_name = |row: &SqliteRow| Ok((row.try_get::<i64, _>("pk")?, row.try_get("name")?));
    let mut columns = rows
        .iter()
        .map(place_and_name)
        .collect::<Result<Vec<(i64, String)>, sqlx::Error>>()?;
    columns.retain(|(place, _)| *place > 0);
    columns.sort_unstable();
    Ok(columns.into_iter().map(|(_, name)| name).collect())
}

fn rowid_name(kind: &Kind, shape: &TableShape, place: &Place) -> Result<&'static str, SourceError> {
    let no_rowid = |reason| SourceError::NoRowId {
        relation: place.relation.clone(),
        reason,
    };
    if kind.without_rowid {
        return Err(no_rowid(
            "it is declared WITHOUT ROWID; create it anew without that clause",
        ));
    }
    let mut names = ROWID_NAMES.into_iter();
    names
        .find(|name| shape.column(name).is_none())
        .ok_or_else(|| no_rowid("columns are called rowid, _rowid_ and oid; rename one of them"))
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;

    #[tokio::test]
    async fn rows_are_looked_up_by_rowid_and_by_nothing_else() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let schema = "CREATE TABLE patients (id TEXT PRIMARY KEY, ssn BLOB); \
                      CREATE INDEX by_ssn ON patients (ssn)";
        sqlx::raw_sql(schema)
            .execute(&mut connection)
            .await
            .unwrap();
        let place = Place::new(&"a database".into(), "patients");
        let table = Table::find(&mut connection, place).await.unwrap();
        let (from, rowid) = (table.sql(), table.rowid());
        for (statement, plan) in [
            (format!("SELECT max({rowid}) FROM {from}"), "SEARCH t"),
            (
                format!(
                    "SELECT {rowid} FROM {from} WHERE {rowid} BETWEEN 7 AND 9 ORDER BY {rowid}"
                ),
                "SEARCH t USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
            ),
            (
                format!("UPDATE {from} SET ssn = NULL WHERE {rowid} = 7"),
                "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",
            ),
            (
                format!("SELECT count(ssn) FROM {from} WHERE ssn IS NOT NULL"),
                "SCAN t",
            ),
            (
                format!("SELECT ssn FROM {from} WHERE ssn = x'01'"),
                "SCAN t",
            ),
        ] {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let row = sqlx::query(explain).fetch_one(&mut connection).await;
            let planned: String = row.unwrap().get("detail");
            assert_eq!(planned, plan, "{statement}");
        }
    }
}
