//! How fast a rotation moved values.

use rekey_domain::{BatchState, Rate};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, prelude::DateTimeUtc,
};

use crate::{
    StoreError,
    rotations::{Rotation, entities::batch, progress},
};

/// The rate of a rotation's first pass, from its switch to the last batch that ended: what it
/// waited for counts too. None where it moved nothing.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
) -> Result<Option<Rate>, StoreError> {
    if let Some(totals) = rotation.totals_at_its_end() {
        return Ok(totals.rate);
    }
    let Some(started) = rotation.switched_at else {
        return Ok(None);
    };
    let found = batch::Entity::find()
        .select_only()
        .column_as(progress::sum(batch::Column::Moved), "moved")
        .column_as(batch::Column::EndedAt.max(), "ended")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(0))
        .filter(batch::Column::State.eq(BatchState::Done.to_string()))
        .into_tuple::<(Option<i64>, Option<DateTimeUtc>)>()
        .one(db)
        .await?;
    let Some((Some(moved), Some(ended))) = found else {
        return Ok(None);
    };
    let took = (ended - started).to_std().unwrap_or_default();
    Ok(Rate::measured(moved.unsigned_abs(), took))
}
