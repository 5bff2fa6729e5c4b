//! Sources, their tables and protected columns, as `rekey apply` wrote them.

use std::{collections::HashMap, str::FromStr};

use rekey_domain::{
    Bind, BindType, ColumnName, ColumnSpec, Limits, OnUpdate, TextEncoding, Triggers,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr,
    EntityTrait, ExprTrait, FromQueryResult, IdenStatic, Iterable, JoinType, QueryFilter,
    QueryOrder, QueryResult, QuerySelect, QueryTrait, RelationDef, Select, sea_query::Expr,
};
use uuid::Uuid;

pub use crate::sources::entities::{source::Model as Source, source_table::Model as Table};
use crate::{
    StoreError, Unit,
    database::stored::{Json, Text},
    keys::{entities::keyring, keyrings},
    rotations::{self, entities::rotation, quarantine},
    sources::{
        bind_types,
        entities::{protected_column, source, source_table},
    },
};

/// A protected column with its table and source.
#[derive(Debug, Clone)]
pub struct Protected {
    /// Its id in the store.
    pub id: Uuid,
    /// Its source.
    pub source: Source,
    /// Its table.
    pub table: Table,
    /// Its keyring's id.
    pub keyring_id: Uuid,
    /// What it takes to encrypt and decrypt its values.
    pub spec: ColumnSpec,
    /// Its identity at the source, whatever it is called now; none: not noted yet.
    pub identity: Option<String>,
}

/// A column to protect.
#[derive(Debug, Clone)]
pub struct NewColumn {
    /// Its name in its table.
    pub name: String,
    /// The stable string that stands first in associated data.
    pub column_id: String,
    /// Whether a person chose the id. A default id counts only when the column is first protected, so that a table may
    /// be renamed.
    pub is_id_said: bool,
    /// Its keyring.
    pub keyring: Uuid,
    /// What its values are bound to.
    pub bind: Bind,
    /// The columns `bind` resolves to.
    pub bind_columns: Vec<String>,
    /// Their types.
    pub bind_types: Vec<BindType>,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// What its source knows it by.
    pub identity: Option<String>,
}

/// Every protected column, oldest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Protected>, StoreError> {
    joined(db, Condition::all()).await
}

/// Every protected column with its keyring, both by their ids: what whoever may read nothing else of them needs.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn keyrings(db: &impl ConnectionTrait) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
    Ok(protected_column::Entity::find()
        .select_only()
        .column(protected_column::Column::Id)
        .column(protected_column::Column::KeyringId)
        .into_tuple()
        .all(db)
        .await?)
}

/// The sources that have protected columns.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn sources(db: &impl ConnectionTrait) -> Result<Vec<Source>, StoreError> {
    let mut sources: Vec<Source> = Vec::new();
    for column in all(db).await? {
        if sources.iter().all(|source| source.id != column.source.id) {
            sources.push(column.source);
        }
    }
    Ok(sources)
}

/// The names of all sources: what whoever may read nothing else of them needs.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn source_names(db: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
    Ok(source::Entity::find()
        .select_only()
        .column(source::Column::Name)
        .into_tuple()
        .all(db)
        .await?)
}

/// The protected columns of a keyring.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_keyring(
    db: &impl ConnectionTrait,
    keyring: Uuid,
) -> Result<Vec<Protected>, StoreError> {
    let of_keyring = protected_column::Column::KeyringId.eq(keyring);
    joined(db, Condition::all().add(of_keyring)).await
}

/// Each with its table, source and keyring, by one statement: every batch asks for them.
async fn joined(db: &impl ConnectionTrait, which: Condition) -> Result<Vec<Protected>, StoreError> {
    use protected_column::Column::{Id, KeyringId, TableId};
    let in_table = protected_column::Entity::belongs_to(source_table::Entity)
        .from(TableId)
        .to(source_table::Column::Id);
    let under_keyring = protected_column::Entity::belongs_to(keyring::Entity)
        .from(KeyringId)
        .to(keyring::Column::Id);
    let select = protected_column::Entity::find()
        .join(JoinType::InnerJoin, in_table.into())
        .join(JoinType::InnerJoin, in_source())
        .join(JoinType::InnerJoin, under_keyring.into())
        .column_as(keyring::Column::Name, "keyring.name")
        .filter(which)
        .order_by_asc(Id);
    let select = with::<source_table::Entity>(select, "table.");
    let select = with::<source::Entity>(select, "source.");
    let statement = select.build(db.get_database_backend());
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok(protected(row)?))
        .collect::<Result<_, _>>()
}

/// The source of a table.
fn in_source() -> RelationDef {
    source_table::Entity::belongs_to(source::Entity)
        .from(source_table::Column::SourceId)
        .to(source::Column::Id)
        .into()
}

/// Selects all columns of another table too.
fn with<E: EntityTrait>(
    select: Select<protected_column::Entity>,
    prefix: &str,
) -> Select<protected_column::Entity> {
    E::Column::iter().fold(select, |select, column| {
        select.column_as(column, format!("{prefix}{}", column.as_str()))
    })
}

fn protected(row: &QueryResult) -> Result<Protected, DbErr> {
    let column = protected_column::Model::from_query_result(row, "")?;
    let table = Table::from_query_result(row, "table.")?;
    let source = Source::from_query_result(row, "source.")?;
    let Text(keyring) = row.try_get("keyring.", "name")?;
    let spec = ColumnSpec {
        name: ColumnName {
            source: source.name.clone(),
            table: table.name.clone(),
            column: column.name,
        },
        column_id: column.column_id,
        keyring,
        bind: column.bind.0,
        bind_columns: column.bind_columns.0,
        bind_types: bind_types::read(column.bind_types, column.bind_lengths),
        encoding: column.encoding.0,
    };
    Ok(Protected {
        id: column.id,
        source,
        table,
        keyring_id: column.keyring_id,
        spec,
        identity: column.identity,
    })
}

/// The protected column of this name, `source.table.column`.
///
/// # Errors
/// [`StoreError::Unknown`] lists the columns there are; [`StoreError::Refused`] for a malformed name.
pub async fn by_name(db: &impl ConnectionTrait, name: &str) -> Result<Protected, StoreError> {
    let name =
        ColumnName::from_str(name).map_err(|error| StoreError::Refused(error.to_string()))?;
    let columns = all(db).await?;
    let known = columns
        .iter()
        .map(|column| column.spec.name.to_string())
        .collect();
    let found = columns.into_iter().find(|column| column.spec.name == name);
    found.ok_or_else(|| StoreError::Unknown {
        what: format!("protected column {name}"),
        known,
    })
}

/// A table that has protected columns, with its source.
///
/// # Errors
/// [`StoreError::Unknown`] when there is none.
pub async fn table(db: &impl ConnectionTrait, id: Uuid) -> Result<(Source, Table), StoreError> {
    let unknown = || StoreError::Unknown {
        what: format!("table with id {id}"),
        known: Vec::new(),
    };
    let found = source_table::Entity::find_by_id(id)
        .join(JoinType::InnerJoin, in_source())
        .select_also(source::Entity)
        .one(db)
        .await?;
    match found {
        Some((table, Some(source))) => Ok((source, table)),
        _ => Err(unknown()),
    }
}

/// The source of this name, created or updated to this URL; `true` if it existed with another URL.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn ensure_source(
    unit: &Unit,
    name: &str,
    url: &str,
) -> Result<(Source, bool), StoreError> {
    let found = source::Entity::find()
        .filter(source::Column::Name.eq(name))
        .one(unit.db())
        .await?;
    match found {
        Some(found) if found.url == url => Ok((found, false)),
        Some(found) => {
            let row = source::ActiveModel {
                id: Set(found.id),
                url: Set(url.to_owned()),
                ..Default::default()
            };
            Ok((row.update(unit.db()).await?, true))
        }
        None => {
            let row = source::ActiveModel {
                id: Set(Uuid::now_v7()),
                name: Set(name.to_owned()),
                url: Set(url.to_owned()),
                created_at: Set(unit.now()),
                limits: Set(None),
                database_id: Set(None),
            };
            let taken = |error| StoreError::stale_if_taken(error, format!("source {name}"));
            Ok((row.insert(unit.db()).await.map_err(taken)?, false))
        }
    }
}

/// Notes the identity of a source's database; `false` if it is noted already or unknown.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_database(
    unit: &Unit,
    source: &Source,
    id: Option<&str>,
) -> Result<bool, StoreError> {
    if id.is_none() || source.database_id.as_deref() == id {
        return Ok(false);
    }
    let row = source::ActiveModel {
        id: Set(source.id),
        database_id: Set(id.map(str::to_owned)),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(true)
}

/// Notes that a source is another database from now on. The next `apply` notes the identities of its tables and
/// columns.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn accept_database(unit: &Unit, source: &Source, id: &str) -> Result<(), StoreError> {
    note_database(unit, source, Some(id)).await?;
    let tables = source_table::Entity::find().filter(source_table::Column::SourceId.eq(source.id));
    for table in tables.all(unit.db()).await? {
        source_table::Entity::update_many()
            .col_expr(source_table::Column::Oid, Expr::value(Option::<i64>::None))
            .filter(source_table::Column::Id.eq(table.id))
            .exec(unit.db())
            .await?;
        protected_column::Entity::update_many()
            .col_expr(
                protected_column::Column::Identity,
                Expr::value(Option::<String>::None),
            )
            .filter(protected_column::Column::TableId.eq(table.id))
            .exec(unit.db())
            .await?;
    }
    Ok(())
}

/// The source of this name.
///
/// # Errors
/// [`StoreError::Unknown`] lists those that there are.
pub async fn source_by_name(db: &impl ConnectionTrait, name: &str) -> Result<Source, StoreError> {
    let sources = source::Entity::find().all(db).await?;
    let known = sources.iter().map(|source| source.name.clone()).collect();
    let found = sources.into_iter().find(|source| source.name == name);
    found.ok_or_else(|| StoreError::Unknown {
        what: format!("source {name}"),
        known,
    })
}

/// Notes PostgreSQL's number of a table; `false` if it is noted already, or there is none.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_oid(unit: &Unit, table: &Table, oid: Option<i64>) -> Result<bool, StoreError> {
    if oid.is_none() || table.oid == oid {
        return Ok(false);
    }
    let row = source_table::ActiveModel {
        id: Set(table.id),
        oid: Set(oid),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(true)
}

/// Keeps others from changing sources until the unit ends.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn lock_sources(unit: &Unit) -> Result<(), StoreError> {
    let sources = source::Entity::find().order_by_asc(source::Column::Id);
    sources.lock_exclusive().all(unit.db()).await?;
    Ok(())
}

impl Source {
    /// Its limits; where nothing was said it has none.
    pub fn limits(&self) -> Limits {
        let said = self.limits.clone();
        said.map_or_else(Limits::default, |Json(said)| said)
    }
}

/// Sets a source's limits; `false` where they are as they should be.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn set_limits(unit: &Unit, source: &Source, limits: &Limits) -> Result<bool, StoreError> {
    if source.limits() == *limits {
        return Ok(false);
    }
    let row = source::ActiveModel {
        id: Set(source.id),
        limits: Set(Some(Json(limits.clone()))),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(true)
}

impl Table {
    /// What our updates do with its triggers and rules; `fire` where nothing was declared, as it has none.
    pub fn triggers(&self) -> Triggers {
        self.triggers
            .as_ref()
            .map_or(Triggers::Fire, |Text(said)| *said)
    }

    /// Whether other code of the table's owner may run in our sessions too: who lets triggers fire trusts it.
    pub fn trusts_code(&self) -> bool {
        self.on_update().triggers == Some(Triggers::Fire)
    }

    /// What was declared of our updates' effects beyond its rows. Where nothing is noted of publications, an older
    /// program applied the table, and that program refused a table whose publications were not accepted.
    pub fn on_update(&self) -> OnUpdate {
        OnUpdate {
            triggers: self.triggers.as_ref().map(|Text(said)| *said),
            publications_accepted: self.publications_accepted.unwrap_or(true),
        }
    }
}

/// The table of this name, created or updated to this relation and declaration; `true` if it existed and changed.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn ensure_table(
    unit: &Unit,
    source: Uuid,
    name: &str,
    relation: &str,
    said: OnUpdate,
) -> Result<(Table, bool), StoreError> {
    let triggers = said.triggers.map(Text);
    let accepted = Some(said.publications_accepted);
    let named = source_table::Column::SourceId
        .eq(source)
        .and(source_table::Column::Name.eq(name));
    match source_table::Entity::find()
        .filter(named)
        .one(unit.db())
        .await?
    {
        Some(found)
            if found.relation == relation
                && found.triggers == triggers
                && found.publications_accepted == accepted =>
        {
            Ok((found, false))
        }
        Some(found) => {
            let relation = Set(relation.to_owned());
            let row = source_table::ActiveModel {
                id: Set(found.id),
                relation,
                triggers: Set(triggers),
                publications_accepted: Set(accepted),
                ..Default::default()
            };
            Ok((row.update(unit.db()).await?, true))
        }
        None => {
            let row = source_table::ActiveModel {
                id: Set(Uuid::now_v7()),
                source_id: Set(source),
                name: Set(name.to_owned()),
                relation: Set(relation.to_owned()),
                triggers: Set(triggers),
                publications_accepted: Set(accepted),
                oid: Set(None),
            };
            let taken = |error| StoreError::stale_if_taken(error, format!("table {name}"));
            Ok((row.insert(unit.db()).await.map_err(taken)?, false))
        }
    }
}

/// What became of a column that is to be protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// It is protected now.
    New,
    /// It was already; what it is known by was noted.
    Noted,
    /// It was already; its bind columns have other types than before, which were noted.
    Retyped,
    /// It was already, and nothing was written.
    Known,
}

/// Protects a column.
///
/// # Errors
/// [`StoreError::Refused`] when it is protected in another way: `bind`, keyring, encoding and column
/// id are frozen at first use.
pub async fn protect(unit: &Unit, table: Uuid, new: NewColumn) -> Result<Protection, StoreError> {
    let named = protected_column::Column::TableId
        .eq(table)
        .and(protected_column::Column::Name.eq(&new.name));
    if let Some(old) = protected_column::Entity::find()
        .filter(named)
        .one(unit.db())
        .await?
    {
        let same = old.keyring_id == new.keyring
            && old.bind.0 == new.bind
            && old.encoding.0 == new.encoding;
        let same_id = !new.is_id_said || old.column_id == new.column_id;
        if same && same_id && old.bind_columns.0 == new.bind_columns {
            return note(unit, old, new.bind_types, new.identity).await;
        }
        let before = keyrings::by_id(unit.db(), old.keyring_id).await?.name;
        let after = keyrings::by_id(unit.db(), new.keyring).await?.name;
        return Err(refuse_other(&old, &new, before.as_str(), after.as_str()));
    }
    refuse_taken_id(unit, table, &new).await?;
    // A rotation of the keyring that is about to end looks at its columns under this lock.
    keyrings::lock(unit, new.keyring).await?;
    let column = format!("column {}", new.name);
    let row = protected_column::ActiveModel {
        id: Set(Uuid::now_v7()),
        table_id: Set(table),
        keyring_id: Set(new.keyring),
        name: Set(new.name),
        column_id: Set(new.column_id),
        bind: Set(Json(new.bind)),
        bind_columns: Set(Json(new.bind_columns)),
        bind_lengths: Set(Some(Json(bind_types::lengths(&new.bind_types)))),
        bind_types: Set(Some(Json(bind_types::stored(&new.bind_types)))),
        encoding: Set(Json(new.encoding)),
        identity: Set(new.identity),
        created_at: Set(unit.now()),
    };
    let taken = |error| StoreError::stale_if_taken(error, column);
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(Protection::New)
}

async fn note(
    unit: &Unit,
    column: protected_column::Model,
    types: Vec<BindType>,
    identity: Option<String>,
) -> Result<Protection, StoreError> {
    let lengths = Some(Json(bind_types::lengths(&types)));
    let types = Some(Json(bind_types::stored(&types)));
    let retyped = column.bind_types.is_some() && column.bind_types != types;
    let same = column.bind_types == types && column.bind_lengths == lengths;
    if same && column.identity == identity {
        return Ok(Protection::Known);
    }
    let row = protected_column::ActiveModel {
        id: Set(column.id),
        bind_types: Set(types),
        bind_lengths: Set(lengths),
        identity: Set(identity),
        ..Default::default()
    };
    row.update(unit.db()).await?;
    Ok(match retyped {
        true => Protection::Retyped,
        false => Protection::Noted,
    })
}

/// Names the property, frozen at first use, that would change.
fn refuse_other(
    old: &protected_column::Model,
    new: &NewColumn,
    before: &str,
    after: &str,
) -> StoreError {
    let list = |names: &[String]| match names {
        [] => "nothing but the column".to_owned(),
        names => names.join(", "),
    };
    let id = if new.is_id_said {
        &new.column_id
    } else {
        &old.column_id
    };
    let frozen = [
        ("keyring", before.to_owned(), after.to_owned()),
        ("bind", list(&old.bind_columns.0), list(&new.bind_columns)),
        (
            "encoding",
            format!("{:?}", old.encoding.0),
            format!("{:?}", new.encoding),
        ),
        ("id", old.column_id.clone(), id.clone()),
        (
            "bind",
            format!("{:?}", old.bind.0),
            format!("{:?}", new.bind),
        ),
    ];
    let other = frozen.into_iter().find(|(_, is, said)| is != said);
    let (what, is, said) = other.expect("something is another, or it is the same");
    let helps = match what {
        "keyring" => {
            "its values are under that keyring's keys, and no command moves them to another's"
        }
        _ => {
            "if the database calls things otherwise now, or its type changed: rekey columns rename, which looks whether its values open"
        }
    };
    StoreError::Refused(format!(
        "column {} is protected already with {what} {is}, and {said} was asked for: that is frozen at first use; {helps}",
        new.name
    ))
}

/// Ids tell columns apart: with the same id, a value of one column could be put into the other.
async fn refuse_taken_id(unit: &Unit, table: Uuid, new: &NewColumn) -> Result<(), StoreError> {
    let columns = all(unit.db()).await?;
    let mut others = columns.iter().filter(|other| {
        // The same column: somebody else has just protected it.
        other.table.id != table || other.spec.name.column != new.name
    });
    let Some(taken) = others.find(|other| other.spec.column_id == new.column_id) else {
        return Ok(());
    };
    Err(StoreError::Refused(format!(
        "column {} would have the id {}, which is that of {}; give it another, id = \"…\", or keep the table's name in rekey.toml",
        new.name, new.column_id, taken.spec.name
    )))
}

/// Where a protected column is from now on, and what its values are bound to there.
#[derive(Debug, Clone)]
pub struct NewPlace {
    /// What it is called.
    pub name: ColumnName,
    /// Its table in the database.
    pub relation: String,
    /// What PostgreSQL knows that by.
    pub oid: Option<i64>,
    /// What its values are bound to.
    pub bind: Bind,
    /// The columns that `bind` resolves to.
    pub bind_columns: Vec<String>,
    /// Their types.
    pub bind_types: Vec<BindType>,
    /// How ciphertext stands in it.
    pub encoding: TextEncoding,
    /// What the source knows each column of the table by.
    pub identities: HashMap<String, String>,
}

/// Renames a column, and its table with all columns if the table's name changes. The column's id and keyring stay, and
/// rotations that are not over follow the new name.
///
/// # Errors
/// [`StoreError::Stale`] where it was renamed or released meanwhile, or the name is taken.
pub async fn rename(unit: &Unit, column: &Protected, to: &NewPlace) -> Result<(), StoreError> {
    let stale = || StoreError::Stale {
        what: format!("column {}", column.spec.name),
    };
    lock_sources(unit).await?;
    let found = all(unit.db()).await?;
    let is_same = |one: &&Protected| one.id == column.id && one.spec == column.spec;
    found.iter().find(is_same).ok_or_else(stale)?;
    let taken = |error| StoreError::stale_if_taken(error, format!("{}", to.name));
    let table = source_table::ActiveModel {
        id: Set(column.table.id),
        name: Set(to.name.table.clone()),
        relation: Set(to.relation.clone()),
        oid: Set(to.oid),
        ..Default::default()
    };
    table.update(unit.db()).await.map_err(taken)?;
    let row = protected_column::ActiveModel {
        id: Set(column.id),
        name: Set(to.name.column.clone()),
        bind: Set(Json(to.bind.clone())),
        bind_columns: Set(Json(to.bind_columns.clone())),
        bind_types: Set(Some(Json(bind_types::stored(&to.bind_types)))),
        bind_lengths: Set(Some(Json(bind_types::lengths(&to.bind_types)))),
        encoding: Set(Json(to.encoding)),
        identity: Set(to.identities.get(&to.name.column).cloned()),
        ..Default::default()
    };
    row.update(unit.db()).await.map_err(taken)?;
    for other in found.iter().filter(|one| one.table.id == column.table.id) {
        if other.id != column.id {
            let along = protected_column::ActiveModel {
                id: Set(other.id),
                identity: Set(to.identities.get(&other.spec.name.column).cloned()),
                ..Default::default()
            };
            along.update(unit.db()).await?;
        }
        let mut name = other.spec.name.clone();
        name.table.clone_from(&to.name.table);
        if other.id == column.id {
            name = to.name.clone();
        }
        follow(unit, &other.spec.name, &name).await?;
    }
    Ok(())
}

/// Rotations that are not over name the columns that they were asked about.
async fn follow(unit: &Unit, old: &ColumnName, new: &ColumnName) -> Result<(), StoreError> {
    for live in rotations::not_over(unit.db()).await? {
        let renamed = |name: &ColumnName| {
            if name == old {
                new.clone()
            } else {
                name.clone()
            }
        };
        let only = live.only_column.as_ref().map(renamed);
        let swept = live.sweep_columns.as_ref();
        let swept = swept.map(|names| names.iter().map(renamed).collect::<Vec<_>>());
        if only == live.only_column && swept == live.sweep_columns {
            continue;
        }
        let row = rotation::ActiveModel {
            id: Set(live.id),
            only_column: Set(only.map(Text)),
            sweep_columns: Set(swept.map(Json)),
            ..Default::default()
        };
        row.update(unit.db()).await?;
    }
    Ok(())
}

/// Forgets a protected column, and what of it is in quarantine; `false` when it was forgotten already.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn release(unit: &Unit, column: Uuid) -> Result<bool, StoreError> {
    quarantine::resolve_column(unit, column).await?;
    let deleted = protected_column::Entity::delete_by_id(column)
        .exec(unit.db())
        .await?;
    Ok(deleted.rows_affected == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
    };

    async fn protect_ssn(store: &Store, keyring: Uuid) -> Result<Protection, StoreError> {
        let unit = store.begin().await?;
        let (source, _) = ensure_source(&unit, "clinic", "sqlite://clinic.db").await?;
        let table = ensure_table(
            &unit,
            source.id,
            "patients",
            "patients",
            OnUpdate::default(),
        );
        let (table, _) = table.await?;
        let new = NewColumn {
            name: "ssn".to_owned(),
            column_id: "clinic.main.patients.ssn".to_owned(),
            is_id_said: true,
            keyring,
            bind: Bind::Column,
            bind_columns: Vec::new(),
            bind_types: Vec::new(),
            encoding: TextEncoding::Binary,
            identity: None,
        };
        let protected = protect(&unit, table.id, new).await?;
        unit.commit().await?;
        Ok(protected)
    }

    #[tokio::test]
    async fn a_configuration_applied_by_two_at_once_is_written_once() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let keyring = store.keyring("phi").await.id;
            let applied = tokio::join!(
                protect_ssn(&store, keyring),
                protect_ssn(&elsewhere, keyring)
            );
            for one in [applied.0, applied.1] {
                assert!(
                    one.as_ref().is_ok() || one.as_ref().is_err_and(StoreError::is_retryable),
                    "{one:?}"
                );
            }
            let again = protect_ssn(&store, keyring).await.unwrap();
            assert_eq!(again, Protection::Known);
            assert_eq!(all(store.db()).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_released_column_is_forgotten_once_and_may_be_protected_again() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let keyring = store.keyring("phi").await.id;
            let protected = protect_ssn(&store, keyring).await.unwrap();
            assert_eq!(protected, Protection::New);
            let column = all(store.db()).await.unwrap()[0].id;
            for released in [true, false] {
                let unit = store.begin().await.unwrap();
                assert_eq!(release(&unit, column).await.unwrap(), released);
                unit.commit().await.unwrap();
                assert_eq!(all(store.db()).await.unwrap().len(), 0);
            }
            let protected = protect_ssn(&store, keyring).await.unwrap();
            assert_eq!(protected, Protection::New);
        }
    }
}
