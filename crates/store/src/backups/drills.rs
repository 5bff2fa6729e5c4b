//! Drills: each attempt to bring a key back from what a destination keeps, and what came of it.

use chrono::{DateTime, Utc};
use rekey_domain::{Attempt, BackupProblem, DestinationName, Drilled, KeyId};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    backups::destinations::Since,
    backups::entities::drill,
    database::stored::{Id, Text},
};

/// Of a key at a destination so many are kept.
const KEPT: usize = 100;

/// A drill. One that finds what the one before found is counted with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Its id.
    pub id: Uuid,
    /// The key.
    pub key: KeyId,
    /// Where.
    pub destination: DestinationName,
    /// The bundle; none: it did not come to one.
    pub bundle: Option<String>,
    /// What was wrong; none: the key came back.
    pub problem: Option<BackupProblem>,
    /// When this was first found.
    pub began_at: DateTime<Utc>,
    /// When it was last found.
    pub last_at: DateTime<Utc>,
    /// How often in a row.
    pub times: u32,
    /// How long the last one took, in milliseconds.
    pub millis: u64,
    /// Values of protected columns that the restored key opened.
    pub opened: u64,
}

impl Drill {
    /// As the gate asks.
    pub fn for_the_gate(&self) -> Drilled {
        Drilled {
            id: self.id.as_u128(),
            destination: self.destination.clone(),
            at: self.last_at,
            problem: self.problem,
        }
    }

    /// As the last attempt.
    pub fn as_attempt(&self) -> Attempt {
        Attempt {
            at: self.last_at,
            problem: self.problem,
            times: self.times,
        }
    }
}

impl From<drill::Model> for Drill {
    fn from(row: drill::Model) -> Self {
        Self {
            id: row.id,
            key: row.key_id.0,
            destination: row.destination.0,
            bundle: row.bundle,
            problem: row.problem.map(|Text(problem)| problem),
            began_at: row.began_at,
            last_at: row.last_at,
            times: row.times.unsigned_abs(),
            millis: row.millis.unsigned_abs(),
            opened: row.opened.unsigned_abs(),
        }
    }
}

/// What an attempt to store or prove a backup came to.
#[derive(Debug, Clone)]
pub struct NewDrill<'a> {
    /// The key.
    pub key: KeyId,
    /// Where.
    pub destination: &'a DestinationName,
    /// The bundle.
    pub bundle: Option<String>,
    /// What was wrong.
    pub problem: Option<BackupProblem>,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// Values of protected columns that the restored key opened.
    pub opened: u64,
}

/// Those at the places that destinations mean today.
async fn here(
    db: &impl ConnectionTrait,
    rows: Vec<drill::Model>,
) -> Result<Vec<Drill>, StoreError> {
    let since = Since::of(db).await?;
    let mut all: Vec<_> = rows.into_iter().map(Drill::from).collect();
    all.retain(|one| since.is_here(&one.destination, one.last_at));
    Ok(all)
}

/// Every drill, the latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Drill>, StoreError> {
    let rows = drill::Entity::find()
        .order_by_desc(drill::Column::LastAt)
        .order_by_desc(drill::Column::Id);
    here(db, rows.all(db).await?).await
}

/// The drills of a key, the latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_key(db: &impl ConnectionTrait, key: KeyId) -> Result<Vec<Drill>, StoreError> {
    let rows = drill::Entity::find()
        .filter(drill::Column::KeyId.eq(Id(key)))
        .order_by_desc(drill::Column::LastAt)
        .order_by_desc(drill::Column::Id);
    here(db, rows.all(db).await?).await
}

/// When a drill first brought the key back, wherever that was.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn first_proof(
    db: &impl ConnectionTrait,
    key: KeyId,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let first = drill::Entity::find()
        .filter(drill::Column::KeyId.eq(Id(key)))
        .filter(drill::Column::Problem.is_null())
        .order_by_asc(drill::Column::BeganAt)
        .one(db);
    Ok(first.await?.map(|drill| drill.began_at))
}

/// Notes what an attempt came to; answers whether that is another outcome than before.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note(unit: &Unit, new: NewDrill<'_>) -> Result<bool, StoreError> {
    date_back(unit, &new).await?;
    let before = of_key(unit.db(), new.key).await?;
    let here: Vec<_> = before
        .iter()
        .filter(|drill| drill.destination == *new.destination)
        .collect();
    let same = here
        .first()
        .filter(|last| (last.problem, &last.bundle) == (new.problem, &new.bundle));
    match same {
        Some(last) => {
            let again = drill::ActiveModel {
                id: Unchanged(last.id),
                last_at: Set(unit.now()),
                times: Set(i32::try_from(last.times)
                    .unwrap_or(i32::MAX)
                    .saturating_add(1)),
                millis: Set(number(new.millis)),
                opened: Set(number(new.opened)),
                ..Default::default()
            };
            again.update(unit.db()).await?;
        }
        None => {
            let row = drill::ActiveModel {
                id: Set(unit.new_id()),
                key_id: Set(Id(new.key)),
                destination: Set(Text(new.destination.clone())),
                bundle: Set(new.bundle),
                problem: Set(new.problem.map(Text)),
                began_at: Set(unit.now()),
                last_at: Set(unit.now()),
                times: Set(1),
                millis: Set(number(new.millis)),
                opened: Set(number(new.opened)),
            };
            row.insert(unit.db()).await?;
        }
    }
    for old in here.iter().skip(KEPT) {
        drill::Entity::delete_by_id(old.id).exec(unit.db()).await?;
    }
    Ok(here.first().map(|last| last.problem) != Some(new.problem))
}

/// What is dated ahead of the clock would stand before what is found now for ever.
async fn date_back(unit: &Unit, new: &NewDrill<'_>) -> Result<(), StoreError> {
    drill::Entity::update_many()
        .col_expr(drill::Column::LastAt, Expr::value(unit.now()))
        .filter(drill::Column::KeyId.eq(Id(new.key)))
        .filter(drill::Column::Destination.eq(new.destination.as_str()))
        .filter(drill::Column::LastAt.gt(unit.now()))
        .exec(unit.db())
        .await?;
    Ok(())
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
