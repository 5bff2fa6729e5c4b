//! A condition selects the batches of a rotation's current pass.

use rekey_domain::BatchState;
use sea_orm::{ColumnTrait, Condition};

use crate::rotations::{Rotation, entities::batch};

/// Batches of a rotation's current pass that are in `state`.
pub(super) fn of_pass(rotation: &Rotation, state: BatchState) -> Condition {
    Condition::all()
        .add(batch::Column::RotationId.eq(rotation.id))
        .add(batch::Column::Pass.eq(rotation.pass))
        .add(batch::Column::State.eq(state.to_string()))
}
