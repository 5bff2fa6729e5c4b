//! The limits of a batch's source: whether the batch may go on, or waits and says why.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use rekey_domain::{Hold, Limits, Load};
use rekey_operations::{OperationError, Services};
use rekey_store::{
    StoreError,
    batches::{self, Batch, Wait},
    columns::{self, Source, Table},
    keyrings, pace,
    rotations::Rotation,
};
use uuid::Uuid;

/// Whether a batch goes on.
pub enum Turn {
    /// It does; where its source has a pace, with what it took on there.
    Go(Option<Taken>),
    /// It is looked at again after this.
    Wait(Duration),
}

/// Rows taken on at a source that has a pace.
pub struct Taken {
    source: Uuid,
    rows: u64,
    rate: NonZeroU32,
}

/// Asks the limits of the batch's source, and writes down what the batch waits for.
pub async fn turn(
    services: &Services,
    rotation: &Rotation,
    batch: &Batch,
) -> Result<Turn, OperationError> {
    let place = columns::table(services.store.db(), batch.table_id).await?;
    let now = services.store.now().await?;
    let limits = place.0.limits().of(rotation.urgent);
    let (hold, taken) = match hold(services, &place, &limits, now).await? {
        Some(hold) => (Some(hold), None),
        None => pace(services, rotation, &place.0, &limits).await?,
    };
    note(services, batch, &place, hold.as_ref()).await?;
    Ok(hold.map_or(Turn::Go(taken), |hold| Turn::Wait(hold.look_again(now))))
}

async fn hold(
    services: &Services,
    (source, table): &(Source, Table),
    limits: &Limits,
    now: DateTime<Utc>,
) -> Result<Option<Hold>, OperationError> {
    let load = if limits.ask_the_source(now) {
        let source = services.source(source).await?;
        source.load(&table.relation, limits).await?
    } else {
        Load::default()
    };
    Ok(limits.hold(&load, now))
}

/// Takes on a batch of rows, once the ones before are worked off.
async fn pace(
    services: &Services,
    rotation: &Rotation,
    source: &Source,
    limits: &Limits,
) -> Result<(Option<Hold>, Option<Taken>), OperationError> {
    let Some(rate) = limits.rows_per_second else {
        return Ok((None, None));
    };
    let store = &services.store;
    let keyring = keyrings::by_id(store.db(), rotation.keyring_id).await?;
    let rows = limits.batch_rows(keyring.policy.batch_rows).into();
    let source = source.id;
    let unit = store.begin_forgettable().await?;
    let turn = pace::take(&unit, source, rows, rate).await?;
    unit.commit().await?;
    let taken = Taken { source, rows, rate };
    Ok(match turn {
        pace::Turn::Taken => (None, Some(taken)),
        pace::Turn::Wait(wait) => {
            let allowed = rate;
            (Some(Hold::Pace { allowed, wait }), None)
        }
    })
}

/// Says in the batch's row why it waits, or that it does no longer.
async fn note(
    services: &Services,
    batch: &Batch,
    (source, table): &(Source, Table),
    hold: Option<&Hold>,
) -> Result<(), StoreError> {
    // A missing thing stays noted until the batch has ended, as only trying shows whether it is back.
    if hold.is_none() && (batch.waiting_because.is_none() || batch.waiting_since.is_some()) {
        return Ok(());
    }
    let wait = hold.map(|hold| match hold {
        Hold::DeadTuples { .. } => format!("{hold} at {}.{}", source.name, table.name),
        hold => format!("{hold} at {}", source.name),
    });
    let unit = services.store.begin_forgettable().await?;
    let lasts = hold.map_or(Duration::ZERO, |hold| hold.look_again(unit.now()));
    batches::set_waiting(&unit, batch, wait.map(Wait::Limit), lasts).await?;
    unit.commit().await
}

impl Taken {
    /// Replaces the rows that were taken on by the rows that were moved. If that fails, the source only rests longer
    /// than necessary.
    pub async fn correct(self, services: &Services, moved: u64) {
        let Self { source, rows, rate } = self;
        let corrected = async {
            let unit = services.store.begin_forgettable().await?;
            pace::correct(&unit, source, rows, moved, rate).await?;
            unit.commit().await
        };
        if let Err(error) = corrected.await {
            tracing::debug!(%error, "the pace of a source is slower for once");
        }
    }
}
