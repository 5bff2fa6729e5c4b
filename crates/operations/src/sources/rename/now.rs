//! The database says what the column is under its new name.

use std::{collections::HashMap, sync::Arc};

use rekey_domain::{Bind, ColumnName};
use rekey_sources::{Measure, Source, TableShape};
use rekey_store::columns::{NewPlace, Protected};

use crate::{
    Desired, OperationError, Services, TableConfig,
    configuration::apply::looked::{bind_columns, bind_type},
    sources::{
        look::{declared_table, describe},
        opening::{Opening, ToOpen, open_values},
        whereabouts::{is_the_stores, renamed},
    },
};

/// What the database says of the column under its new name.
pub(super) struct Now {
    pub(super) source: Arc<dyn Source>,
    pub(super) shape: TableShape,
    pub(super) place: NewPlace,
}

impl Now {
    /// Looks it up.
    pub(super) async fn look(
        services: &Services,
        desired: &Desired,
        source: Arc<dyn Source>,
        column: &Protected,
        new: &ColumnName,
    ) -> Result<Self, OperationError> {
        let refused = |why: &str| refused(&column.spec.name, new, why);
        let url = services.url_of(&column.source);
        let url = url.unwrap_or_else(|_| column.source.url.clone().into());
        if !is_the_stores(&column.source, url.expose_url(), &*source).await? {
            return Err(refused(
                "this program reaches the source elsewhere than the store says; rekey apply its url first",
            ));
        }
        let declared = declared_table(desired, &new.source, &new.table);
        let relation = match declared {
            Some(declared) => declared.relation.clone(),
            None if new.table == column.table.name => {
                let renamed = renamed(&*source, &column.table).await?;
                renamed.unwrap_or_else(|| column.table.relation.clone())
            }
            None => {
                return Err(refused(
                    "no table of that name is declared: say it in rekey.toml first",
                ));
            }
        };
        let shape = describe(&*source, &relation).await?;
        let found = shape.column(&new.column).ok_or_else(|| {
            let known: Vec<_> = shape.columns.iter().map(|one| one.name.as_str()).collect();
            refused(&format!(
                "{relation} has no such column; it has {}",
                known.join(", ")
            ))
        })?;
        let encoding = found.encoding.ok_or_else(|| {
            refused(&format!(
                "its type is {:?}, which holds no ciphertext",
                found.declared_type
            ))
        })?;
        let bind = declared_bind(declared, new).unwrap_or_else(|| column.spec.bind.clone());
        let bind_columns = bind_columns(&bind, &shape).map_err(|why| refused(&why))?;
        if bind_columns.len() != column.spec.bind_columns.len() {
            return Err(refused("its values are bound to another number of columns"));
        }
        let types = bind_columns.iter().map(|name| bind_type(&shape, name));
        let bind_types = types
            .collect::<Result<_, _>>()
            .map_err(|why| refused(&why))?;
        let place = NewPlace {
            name: new.clone(),
            relation: shape.relation.clone(),
            oid: shape.oid,
            bind,
            bind_columns,
            bind_types,
            encoding,
            identities: identities(&shape),
        };
        Ok(Self {
            source,
            shape,
            place,
        })
    }

    /// Opens some values there as those of the column that it was.
    pub(super) async fn open(
        &self,
        services: &Services,
        was: &Protected,
    ) -> Result<Opening, OperationError> {
        let at = ToOpen {
            column: &self.place.name.column,
            encoding: self.place.encoding,
            bind_columns: &self.place.bind_columns,
            keyring: &was.spec.keyring,
            column_id: &was.spec.column_id,
        };
        let (source, relation) = (&*self.source, &self.place.relation);
        let mut opened = open_values(services, source, relation, &[at], Measure::Estimate).await;
        match opened.stopped {
            Some(error) => Err(error),
            None => Ok(opened.columns.remove(0)),
        }
    }
}

/// What the file says of the column's bind.
fn declared_bind(declared: Option<&TableConfig>, name: &ColumnName) -> Option<Bind> {
    let mut columns = declared?.columns.iter();
    let said = columns.find(|column| column.name == name.column)?;
    Some(said.bind.clone())
}

pub(super) fn refused(old: &ColumnName, new: &ColumnName, why: &str) -> OperationError {
    OperationError::Refused(format!("column {old} is not renamed to {new}: {why}"))
}

fn identities(shape: &TableShape) -> HashMap<String, String> {
    let names = shape.columns.iter().map(|column| &column.name);
    let known = names.map(|name| Some((name.clone(), shape.identity(name)?)));
    known.flatten().collect()
}
