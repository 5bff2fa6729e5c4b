//! The catalogues of the file's sources say what its columns are.

use std::{collections::HashMap, sync::Arc};

use rekey_domain::{Bind, BindType, id_part, undeclared};
use rekey_sources::{Source, TableShape};

use crate::{
    ColumnConfig, Desired, OperationError, SourceConfig, TableConfig,
    sources::{
        effects::{effects, tied, would_change_another},
        look::describe,
    },
};

/// A column with what its source's catalogue says of it.
pub(super) struct Resolved<'a> {
    pub(super) source: &'a SourceConfig,
    pub(super) table: &'a TableConfig,
    pub(super) column: &'a ColumnConfig,
    pub(super) shape: Arc<TableShape>,
    pub(super) bind_columns: Vec<String>,
    pub(super) bind_types: Vec<BindType>,
    pub(super) encoding: rekey_domain::TextEncoding,
    pub(super) column_id: String,
}

/// The sources of the file, and what their catalogues say of its columns.
pub(super) struct Looked<'a> {
    pub(super) sources: HashMap<&'a str, Arc<dyn Source>>,
    /// What tells the database of each from the others.
    pub(super) instances: HashMap<&'a str, String>,
    pub(super) resolved: Vec<Resolved<'a>>,
}

impl<'a> Looked<'a> {
    /// Asks each source, once.
    pub(super) async fn at(desired: &'a Desired) -> Result<Self, OperationError> {
        let (mut sources, mut resolved) = (HashMap::new(), Vec::new());
        let mut instances = HashMap::new();
        for source in &desired.sources {
            let open = rekey_sources::open(source.url.expose_url()).await?;
            for table in &source.tables {
                let shape = Arc::new(describe(&*open, &table.relation).await?);
                refuse_effects(source, table, &shape)?;
                for column in &table.columns {
                    resolved.push(resolve_column(source, table, column, &shape)?);
                }
            }
            instances.insert(source.name.as_str(), open.instance().await?);
            sources.insert(source.name.as_str(), open);
        }
        Ok(Self {
            sources,
            instances,
            resolved,
        })
    }
}

/// Our updates may do more than they say: a person has to know, and to say that it is right.
fn refuse_effects(
    source: &SourceConfig,
    table: &TableConfig,
    shape: &TableShape,
) -> Result<(), OperationError> {
    let Some(problem) = undeclared(table.on_update, effects(shape)) else {
        return Ok(());
    };
    Err(OperationError::Configuration {
        place: format!("table {}.{}", source.name, table.name),
        problem,
    })
}

fn resolve_column<'a>(
    source: &'a SourceConfig,
    table: &'a TableConfig,
    column: &'a ColumnConfig,
    shape: &Arc<TableShape>,
) -> Result<Resolved<'a>, OperationError> {
    let place = format!("column {}.{}.{}", source.name, table.name, column.name);
    let wrong = |problem: String| OperationError::Configuration {
        place: place.clone(),
        problem,
    };
    let found = shape.column(&column.name).ok_or_else(|| {
        let known: Vec<_> = shape.columns.iter().map(|c| c.name.as_str()).collect();
        wrong(format!(
            "{} has no such column; it has {}",
            table.relation,
            known.join(", ")
        ))
    })?;
    let encoding = found.encoding.ok_or_else(|| {
        wrong(format!(
            "its type is {:?}; ciphertext needs a bytea, BLOB or text column",
            found.declared_type
        ))
    })?;
    if let Some(tie) = tied(shape, &found.name) {
        return Err(wrong(would_change_another(tie)));
    }
    if shape.partition_key.contains(&found.name) {
        return Err(wrong(
            "it decides in which partition a row lies, and a new value would move the row or fit in none; partition the table by another column".to_owned(),
        ));
    }
    let bind_columns = bind_columns(&column.bind, shape).map_err(wrong)?;
    let bind_types = bind_columns.iter().map(|name| bind_type(shape, name));
    let bind_types = bind_types.collect::<Result<_, _>>().map_err(wrong)?;
    Ok(Resolved {
        source,
        table,
        column,
        shape: Arc::clone(shape),
        bind_columns,
        bind_types,
        encoding,
        column_id: column_id(source, column, shape),
    })
}

/// The columns that a bind resolves to; the error says why it does not, and what to do.
pub(crate) fn bind_columns(bind: &Bind, shape: &TableShape) -> Result<Vec<String>, String> {
    match bind {
        Bind::Column => Ok(Vec::new()),
        Bind::Row if shape.primary_key.is_empty() => Err(
            "bind = \"row\" needs a declared primary key, and the table has none: add one, name columns that never change, bind = [\"…\"], or say bind = \"column\"".to_owned(),
        ),
        Bind::Row => Ok(shape.primary_key.clone()),
        Bind::Columns(columns) => Ok(columns.clone()),
    }
}

/// What a column's values bind others as; the error says why they cannot, and what to do.
pub(crate) fn bind_type(shape: &TableShape, name: &str) -> Result<BindType, String> {
    let column = shape.column(name);
    if let Some(of) = column.and_then(|column| column.bind_type) {
        return Ok(of);
    }
    let found = match column {
        Some(column) if column.declared_type.is_empty() => {
            "a column of no type, whose values may be of any".to_owned()
        }
        Some(column) => format!("a column of type {:?}", column.declared_type),
        None => "no such column".to_owned(),
    };
    Err(format!(
        "{name} cannot bind a value: found {found}, expected one of integers, UUID, text, bytea or BLOB that the database does not compute; name such columns that never change, bind = [\"…\"], or say bind = \"column\""
    ))
}

/// What was said, or `source.schema.table.column` as the catalogue has them; no two columns share it.
fn column_id(source: &SourceConfig, column: &ColumnConfig, shape: &TableShape) -> String {
    let default = || {
        format!(
            "{}.{}.{}",
            source.name,
            shape.id_name,
            id_part(&column.name)
        )
    };
    column.column_id.clone().unwrap_or_else(default)
}
