//! Renaming a protected column: the store follows the database, and its values stay bound to the id that they have.

mod left_behind;
mod now;

use rekey_domain::{ColumnName, Principal, QuarantineReason, TextEncoding};
use rekey_store::{audit, columns};
use serde::Serialize;
use serde_json::json;

use self::now::{Now, refused};
use crate::{
    Action, Desired, OperationError, STORE_SOURCE, Services, access::audited::Audited,
    sources::look::declares,
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
            "a column of that name is protected already, with an id of its own; release that one first; or, where two tables exchanged their names, exchange their relations in rekey.toml and rekey apply",
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
    if opening.opened == 0 && looked_at == 0 && opening.tried > 0 {
        return Err(refused(&format!(
            "none of {} value(s) in {} is ciphertext as this column has it: they were never encrypted, or are written in another way now, as in hex; put them back as they were, or release the column",
            opening.tried, now.place.relation
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
