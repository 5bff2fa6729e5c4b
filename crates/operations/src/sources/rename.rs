//! Renaming a protected column: the store follows the database, and its values stay bound to the id that they have.

mod left_behind;

use std::{collections::HashMap, sync::Arc};

use rekey_domain::{Bind, ColumnName, Principal, QuarantineReason, TextEncoding};
use rekey_sources::{Measure, Source, TableShape};
use rekey_store::{
    audit,
    columns::{self, NewPlace, Protected},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    Action, Desired, OperationError, STORE_SOURCE, Services, TableConfig,
    access::audited::Audited,
    configuration::apply::{bind_columns, bind_type},
    sources::{
        look::{declared_table, declares},
        opening::{Opening, ToOpen, open_values},
        whereabouts::{is_the_stores, renamed},
    },
};

/// A column that was renamed.
#[derive(Debug, Clone, Serialize)]
pub struct Renamed {
    /// What it was called.
    pub from: ColumnName,
    /// What it is called.
    pub to: ColumnName,
    /// What its values are bound to, as before.
    pub column_id: String,
    /// Columns of its table that are of the new table from now on, too.
    pub along: Vec<ColumnName>,
    /// Values that were looked at.
    pub looked_at: u64,
    /// Those of them that open.
    pub opened: u64,
    /// Other columns of the table that were not looked at for ciphertext, as this role may not read them.
    pub not_looked_at: Vec<String>,
    /// Whether the configuration declares it so.
    pub declared: bool,
}

/// Makes the store follow a table or column that was renamed, or whose encoding or bind columns' names changed, in the
/// database. What the file declares of `new` counts; what it does not declare stays. A rotation under way goes on.
///
/// # Errors
/// [`OperationError::Refused`] where values do not open there, or ciphertext is left where it was.
pub async fn rename_column(
    services: &Services,
    desired: &Desired,
    old: &ColumnName,
    new: &ColumnName,
    principal: &Principal,
) -> Result<Renamed, OperationError> {
    let all = columns::all(services.store.db()).await?;
    let column = columns::by_name(services.store.db(), &old.to_string()).await?;
    let refused = |why: &str| refused(old, new, why);
    if old.source != new.source || old.source == STORE_SOURCE {
        return Err(refused("both have to be of one source of yours"));
    }
    if old != new && all.iter().any(|one| one.spec.name == *new) {
        return Err(refused(
            "a column of that name is protected already, with an id of its own; release that one first",
        ));
    }
    let source = services.source(&column.source).await?;
    let now = Now::look(services, desired, source, &column, new).await?;
    let not_looked_at = left_behind::refuse(services, &all, &column, &now).await?;
    let id = &column.spec.column_id;
    let opening = now.open(services, &column).await?;
    // If the column's encoding changed, no rotation would take its old values for ciphertext.
    let has_changed = now.place.encoding != column.spec.encoding;
    let looked_at = match has_changed {
        true => opening.tried,
        false => opening.tried - opening.not_for(QuarantineReason::NotCiphertext),
    };
    if opening.opened == 0 && looked_at > 0 && has_changed {
        return Err(refused(&format!(
            "{} holds {} now and not {}, and none of {looked_at} value(s) opens so: convert them, as with decode(…, 'base64') or encode(…, 'base64'), or put the old type back",
            now.place.relation,
            form(now.place.encoding),
            form(column.spec.encoding)
        )));
    }
    if opening.opened == 0 && looked_at > 0 {
        return Err(refused(&format!(
            "none of {looked_at} value(s) of ciphertext in {} opens under its id {id}: it is another column, or other columns bind it now",
            now.place.relation
        )));
    }
    let moves = old.table != new.table;
    let others = all
        .iter()
        .filter(|one| moves && one.table.id == column.table.id);
    let along = others
        .filter(|one| one.spec.name != *old)
        .map(|one| ColumnName {
            table: new.table.clone(),
            ..one.spec.name.clone()
        });
    let renamed = Renamed {
        from: old.clone(),
        to: new.clone(),
        column_id: id.clone(),
        along: along.collect(),
        looked_at,
        opened: opening.opened,
        not_looked_at,
        declared: declares(desired, new),
    };
    let asked = Audited::begin(services, principal, Action::RenameColumn).await?;
    columns::rename(&asked.unit, &column, &now.place).await?;
    let details = json!({
        "to": new, "column_id": id, "along": renamed.along,
        "relation": now.place.relation, "before": column.table.relation,
        "looked_at": renamed.looked_at, "opened": renamed.opened,
    });
    asked
        .commit(audit::Action::ColumnRenamed, &old.to_string(), details)
        .await?;
    Ok(renamed)
}

fn form(encoding: TextEncoding) -> &'static str {
    match encoding {
        TextEncoding::Binary => "bytes",
        TextEncoding::Base64 => "text",
    }
}

/// What the database says of the column under its new name.
struct Now {
    source: Arc<dyn Source>,
    shape: TableShape,
    place: NewPlace,
}

impl Now {
    async fn look(
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
        let shape = source.describe(&relation).await?;
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
    async fn open(&self, services: &Services, was: &Protected) -> Result<Opening, OperationError> {
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

fn refused(old: &ColumnName, new: &ColumnName, why: &str) -> OperationError {
    OperationError::Refused(format!("column {old} is not renamed to {new}: {why}"))
}

fn identities(shape: &TableShape) -> HashMap<String, String> {
    let names = shape.columns.iter().map(|column| &column.name);
    let known = names.map(|name| Some((name.clone(), shape.identity(name)?)));
    known.flatten().collect()
}
