//! Leases: rights that end by themselves, each with a fencing token (rule 9).

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use crate::{StoreError, Unit, entities::lease};

/// No lease is granted for longer; one that ends later means the clock was stepped back since.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// A right we were granted. Only the holder of the latest token can write under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    token: i64,
}

/// Takes a lease if nobody holds it.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn acquire(
    unit: &Unit,
    name: &str,
    holder: &str,
    lasts: Duration,
) -> Result<Option<Lease>, StoreError> {
    use lease::Column::{Holder, Name, Token, Until};
    let now = unit.database_time_in(Duration::ZERO).await?;
    let row = lease::ActiveModel {
        name: Set(name.to_owned()),
        token: Set(rand::random()),
        holder: Set(holder.to_owned()),
        until: Set(unit.database_time_in(lasts.min(LONGEST)).await?),
    };
    let token = *row.token.as_ref();
    let free = Expr::col((lease::Entity, Until))
        .lte(now)
        .or(Expr::col((lease::Entity, Until)).gt(now + LONGEST.as_millis() as i64));
    let taken = lease::Entity::insert(row)
        .on_conflict(
            OnConflict::column(Name)
                .update_columns([Token, Holder, Until])
                .action_and_where(free)
                .to_owned(),
        )
        .exec_without_returning(unit.db())
        .await?;
    Ok((taken == 1).then(|| Lease {
        name: name.to_owned(),
        token,
    }))
}

/// Renews a lease and makes the whole unit depend on holding it.
///
/// # Errors
/// [`StoreError::Fenced`] when it has passed to another; the unit must then be dropped.
pub async fn hold(unit: &Unit, lease: &Lease, lasts: Duration) -> Result<(), StoreError> {
    let until = unit.database_time_in(lasts.min(LONGEST)).await?;
    let renewed = lease::Entity::update_many()
        .col_expr(lease::Column::Until, Expr::value(until))
        .filter(ours(lease))
        .exec(unit.db())
        .await?;
    if renewed.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Fenced {
            name: lease.name.clone(),
        })
    }
}

/// Gives a lease back, and makes the whole unit depend on having held it.
///
/// # Errors
/// [`StoreError::Fenced`] when it has passed to another; the unit must then be dropped.
pub async fn release(unit: &Unit, lease: &Lease) -> Result<(), StoreError> {
    let deleted = lease::Entity::delete_many()
        .filter(ours(lease))
        .exec(unit.db())
        .await?;
    if deleted.rows_affected == 1 {
        Ok(())
    } else {
        Err(StoreError::Fenced {
            name: lease.name.clone(),
        })
    }
}

fn ours(lease: &Lease) -> Condition {
    Condition::all()
        .add(lease::Column::Name.eq(&lease.name))
        .add(lease::Column::Token.eq(lease.token))
}

/// Ends every lease on messages and jobs. Only for the one worker process of a SQLite store, at
/// start, while it holds the worker lock: whoever held them is gone.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn end_all(unit: &Unit, _proof: &crate::WorkerLock) -> Result<(), StoreError> {
    use crate::entities::{batch, outbox, rotation};
    lease::Entity::delete_many().exec(unit.db()).await?;
    let now = Expr::value(0);
    outbox::Entity::update_many()
        .col_expr(outbox::Column::LeasedUntil, now.clone())
        .exec(unit.db())
        .await?;
    batch::Entity::update_many()
        .col_expr(batch::Column::ResendAt, now.clone())
        .exec(unit.db())
        .await?;
    rotation::Entity::update_many()
        .col_expr(rotation::Column::ResendAt, now)
        .exec(unit.db())
        .await?;
    Ok(())
}
