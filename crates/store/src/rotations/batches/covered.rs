//! What a pass read from end to end: the parts of a table, each in one form, whose ranges were all done.

use std::collections::HashSet;

use rekey_domain::{BatchState, PartId};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter,
    QuerySelect,
    prelude::DateTimeUtc,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::Text,
    rotations::{Locked, Rotation, entities::batch, progress::sum},
};

/// A part in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Which.
    pub part: PartId,
    /// Values that opened in it.
    pub opened: u64,
}

#[derive(FromQueryResult)]
struct Group {
    part: String,
    part_form: String,
    batches: i64,
    done: i64,
    opened: Option<i64>,
    first: i64,
    last: i64,
    long: i64,
    ended: Option<DateTimeUtc>,
}

/// The parts of a table that the current pass read from end to end, each in the form it was read in last. Every block
/// must be in a range; rowids may have gaps.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn covered(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    table: Uuid,
) -> Result<Vec<Covered>, StoreError> {
    use batch::Column::{First, Id, Last, Opened, Part, PartForm, State};
    let done = Expr::case(State.eq(Text(BatchState::Done)), 1).finally(0);
    let long = Expr::col(Last).sub(Expr::col(First)).add(1);
    let groups = batch::Entity::find()
        .select_only()
        .column(Part)
        .column(PartForm)
        .column_as(Id.count(), "batches")
        .column_as(Expr::expr(done).sum().cast_as("bigint"), "done")
        .column_as(sum(Opened), "opened")
        .column_as(First.min(), "first")
        .column_as(Last.max(), "last")
        .column_as(batch::Column::EndedAt.max(), "ended")
        .column_as(Expr::expr(long).sum().cast_as("bigint"), "long")
        .filter(batch::Column::RotationId.eq(rotation.id))
        .filter(batch::Column::Pass.eq(rotation.pass))
        .filter(batch::Column::TableId.eq(table))
        .group_by(Part)
        .group_by(PartForm);
    let mut groups = groups.into_model::<Group>().all(db).await?;
    // A part that was written anew was planned anew: its form is that of the latest.
    groups.sort_by_key(|group| std::cmp::Reverse(group.ended));
    let mut covered: Vec<Covered> = Vec::new();
    for group in groups {
        if covered.iter().all(|one| one.part.name != group.part) {
            covered.extend(group.covered());
        }
    }
    Ok(covered)
}

impl Group {
    fn covered(self) -> Option<Covered> {
        let of_rowids = self.part_form.starts_with("rowid");
        let without_gap = self.first == 0 && self.long == self.last + 1;
        (self.done == self.batches && (of_rowids || without_gap)).then(|| Covered {
            part: PartId {
                name: self.part,
                form: self.part_form,
            },
            opened: self.opened.unwrap_or_default().unsigned_abs(),
        })
    }
}

/// Plans again the void ranges of a part in the current pass, as the part is there in that form after all: it was only
/// away for a while. Returns whether there were any.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn replan_void(
    unit: &Unit,
    held: &Locked,
    table: Uuid,
    part: &PartId,
) -> Result<bool, StoreError> {
    let changes = batch::ActiveModel {
        state: Set(Text(BatchState::Planned)),
        ended_at: Set(None),
        led_by: Set(None),
        ..Default::default()
    };
    let planned = batch::Entity::update_many()
        .set(changes)
        .filter(void(held, table, part))
        .exec(unit.db())
        .await?;
    Ok(planned.rows_affected > 0)
}

/// The parts, in the forms that they had, of which something is void in the current pass.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn void_parts(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    table: Uuid,
) -> Result<HashSet<PartId>, StoreError> {
    let void = super::parts_of_pass(rotation, table)
        .filter(batch::Column::State.eq(BatchState::Void.to_string()));
    Ok(super::parts_found(void.into_tuple().all(db).await?).collect())
}

/// The void ranges of a part in this form, in the current pass.
fn void(rotation: &Rotation, table: Uuid, part: &PartId) -> Condition {
    super::of_pass::of_pass(rotation, BatchState::Void)
        .add(batch::Column::TableId.eq(table))
        .add(batch::Column::Part.eq(&part.name))
        .add(batch::Column::PartForm.eq(&part.form))
}
