//! What a rename would leave behind: ciphertext in the column's old place, and in other places where it may be.
//!
//! A copy of some rows opens under the new name just as the column itself does. So unless the old place is the new one,
//! no other column may hold ciphertext of ours that no protected column covers.

use rekey_sources::{Measure, SourceError, TableShape};
use rekey_store::columns::Protected;

use super::now::{Now, refused};
use crate::{
    OperationError, Services,
    configuration::apply::looked::bind_columns,
    sources::{
        check::protected,
        look::key_names,
        opening::{ToOpen, open_values},
        strays::{self, Stray},
        whereabouts::{ciphertext, counted},
    },
};

/// Where the column was, as the database has it now.
enum Old {
    /// Where it is, or the very column, by the number that the database gave it.
    Same,
    /// In the same table, which the database knows by a number, under another name.
    OtherColumn,
    /// Somewhere else, or nowhere any more.
    Elsewhere,
}

/// Refuses a rename that would leave ciphertext that no protected column covers. Returns the columns that our role may
/// not read, so that nobody looked at them. That is accepted only within the same table, where a column that opens is
/// the renamed one. In another table an unreadable column may be the renamed one itself, so the rename is refused.
pub(super) async fn refuse(
    services: &Services,
    all: &[Protected],
    column: &Protected,
    now: &Now,
) -> Result<Vec<String>, OperationError> {
    let only = match old_place(column, now).await? {
        Old::Same => return Ok(Vec::new()),
        Old::OtherColumn => Some(&now.shape),
        Old::Elsewhere => None,
    };
    // The columns of its table go along, and leave the old one, too.
    let of_source = all.iter().filter(|one| one.source.id == column.source.id);
    let (mut along, others): (Vec<_>, Vec<_>) =
        of_source.partition(|one| one.table.id == column.table.id);
    along.retain(|one| one.id != column.id);
    let mut covered = protected(&*now.source, &others).await;
    covered.add(&now.shape, &now.place.name.column);
    let missing = others.into_iter().filter(|one| !covered.found(one.id));
    let mut missing: Vec<_> = missing.collect();
    for one in along {
        if !covered.add(&now.shape, &one.spec.name.column) {
            missing.push(one);
        }
    }
    let strays = strays::look(&*now.source, &covered, only).await?;
    let keys = key_names(services).await?;
    for stray in strays.found.iter().filter(|stray| stray.is_ours(&keys)) {
        if !is_anothers(services, column, &missing, now, stray).await? {
            return Err(refused(
                &column.spec.name,
                &now.place.name,
                &format!(
                    "{} holds ciphertext of ours, or values that cannot be read, and no protected column covers it: the column may be there, and what is in {} a copy of some of it. Name that one, or move or delete what is there first",
                    stray.place(),
                    now.place.relation
                ),
            ));
        }
    }
    match strays.unreadable.first() {
        Some(place) if only.is_none() => Err(refused(
            &column.spec.name,
            &now.place.name,
            &format!(
                "{} is another table than it was in, and it may be in {place}, which this role may not read ({} column(s) in all): rename it as a role that may, such as the owner of the tables",
                now.place.relation,
                strays.unreadable.len()
            ),
        )),
        _ => Ok(strays.unreadable),
    }
}

/// Whether the old place is the new one; it must be empty otherwise.
async fn old_place(column: &Protected, now: &Now) -> Result<Old, OperationError> {
    // SQLite uses its numbers again.
    let identity = now.shape.identity(&now.place.name.column);
    if now.shape.oid.is_some() && identity.is_some() && identity == column.identity {
        return Ok(Old::Same);
    }
    let relation = match column.table.oid {
        Some(oid) => now.source.name_of(oid).await?,
        None => Some(column.table.relation.clone()),
    };
    let Some(relation) = relation else {
        return Ok(Old::Elsewhere);
    };
    let was = match now.source.describe(&relation).await {
        Err(SourceError::NoSuchTable { .. } | SourceError::NotATable { .. }) => {
            return Ok(Old::Elsewhere);
        }
        was => was?,
    };
    let is_known = column.table.oid.is_some() && was.is_of_the_same_table(&now.shape);
    let elsewhere = match is_known {
        true => Old::OtherColumn,
        false => Old::Elsewhere,
    };
    let Some(name) = was.column(&column.spec.name.column).map(|one| &one.name) else {
        return Ok(elsewhere);
    };
    let is = now.shape.column(&now.place.name.column);
    if was.is_of_the_same_table(&now.shape) && is.is_some_and(|is| is.name == *name) {
        return Ok(Old::Same);
    }
    refuse_what_is_left(column, now, &was, name).await?;
    Ok(elsewhere)
}

/// Ciphertext that stays where the column was would be nobody's.
async fn refuse_what_is_left(
    column: &Protected,
    now: &Now,
    was: &TableShape,
    name: &str,
) -> Result<(), OperationError> {
    let relation = &was.relation;
    let left = ciphertext(&counted(&*now.source, relation, column, None).await?);
    if left == 0 {
        return Ok(());
    }
    Err(refused(
        &column.spec.name,
        &now.place.name,
        &format!(
            "{relation} has {left} value(s) of ciphertext in {name} still, which no rotation would move any more: move or delete them first"
        ),
    ))
}

/// Whether a stray column is another protected column that was renamed too and will be followed next: its values open
/// under that column's id and not under this one's.
async fn is_anothers(
    services: &Services,
    column: &Protected,
    missing: &[&Protected],
    now: &Now,
    stray: &Stray,
) -> Result<bool, OperationError> {
    if missing.is_empty() {
        return Ok(false);
    }
    let shape = match now.source.describe(&stray.relation).await {
        Ok(shape) => shape,
        // A column that cannot be protected is not a protected one.
        Err(error) if error.is_of_every_row() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if opened(services, column, now, stray, &shape).await? > 0 {
        return Ok(false);
    }
    for other in missing {
        if opened(services, other, now, stray, &shape).await? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many of some values of a column open as those of a protected one.
async fn opened(
    services: &Services,
    column: &Protected,
    now: &Now,
    stray: &Stray,
    shape: &TableShape,
) -> Result<u64, OperationError> {
    let Ok(bind_columns) = bind_columns(&column.spec.bind, shape) else {
        return Ok(0);
    };
    let as_its = ToOpen {
        column: &stray.column.name,
        encoding: stray.column.encoding,
        bind_columns: &bind_columns,
        keyring: &column.spec.keyring,
        column_id: &column.spec.column_id,
    };
    let (source, relation) = (&*now.source, &stray.relation);
    let opened = open_values(services, source, relation, &[as_its], Measure::Estimate).await;
    match opened.stopped {
        // A table without rows of its own, or without the bind columns, is another one.
        Some(OperationError::Source(error)) if error.is_of_every_row() => Ok(0),
        Some(error) => Err(error),
        None => Ok(opened.columns.iter().map(|opening| opening.opened).sum()),
    }
}
