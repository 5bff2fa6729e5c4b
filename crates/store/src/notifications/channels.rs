//! Channels: which there are, what goes to each, and whether it takes it.

use chrono::{DateTime, Utc};
use rekey_domain::{ChannelKind, ChannelName, ChannelPolicy};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder,
};
use uuid::Uuid;

use crate::{
    StoreError, Unit,
    database::stored::{Json, Text},
    notifications::entities::channel,
};

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: ChannelName,
    /// What it speaks.
    pub kind: ChannelKind,
    /// What goes there.
    pub policy: ChannelPolicy,
    /// Since when its receiver wants nothing any more (HTTP 410).
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed; none: it did not.
    pub failure: Option<String>,
    /// Since when all attempts have failed.
    pub failing_since: Option<DateTime<Utc>>,
}

impl From<channel::Model> for Channel {
    fn from(row: channel::Model) -> Self {
        Self {
            id: row.id,
            name: row.name.0,
            kind: row.kind.0,
            policy: row.policy.0,
            disabled_at: row.disabled_at,
            failure: row.failure,
            failing_since: row.failing_since,
        }
    }
}

/// The lease of whoever serves a channel.
pub fn lease(name: &ChannelName) -> String {
    format!("notifier/{name}")
}

/// Every channel, by name.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<Channel>, StoreError> {
    let channels = channel::Entity::find().order_by_asc(channel::Column::Name);
    let channels = channels.all(db).await?;
    Ok(channels.into_iter().map(Channel::from).collect())
}

/// The channel of this name.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn find(
    db: &impl ConnectionTrait,
    name: &ChannelName,
) -> Result<Option<Channel>, StoreError> {
    let found = channel::Entity::find().filter(channel::Column::Name.eq(name.as_str()));
    Ok(found.one(db).await?.map(Channel::from))
}

/// Makes a channel.
///
/// # Errors
/// [`StoreError::Stale`] where another made one of this name meanwhile.
pub async fn make(
    unit: &Unit,
    name: &ChannelName,
    kind: ChannelKind,
    policy: &ChannelPolicy,
) -> Result<(), StoreError> {
    let row = channel::ActiveModel {
        id: Set(unit.new_id()),
        name: Set(Text(name.clone())),
        kind: Set(Text(kind)),
        policy: Set(Json(policy.clone())),
        made_at: Set(unit.now()),
        disabled_at: Set(None),
        failure: Set(None),
        failing_since: Set(None),
    };
    let taken = |error| StoreError::stale_if_taken(error, format!("channel {name}"));
    row.insert(unit.db()).await.map_err(taken)?;
    Ok(())
}

/// Changes what a channel speaks and what goes there. It is not disabled any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn change(
    unit: &Unit,
    channel: &Channel,
    kind: ChannelKind,
    policy: &ChannelPolicy,
) -> Result<(), StoreError> {
    let change = channel::ActiveModel {
        kind: Set(Text(kind)),
        policy: Set(Json(policy.clone())),
        disabled_at: Set(None),
        ..Default::default()
    };
    update(unit, &channel.name, change).await
}

/// Removes a channel. What it was told stays.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn remove(unit: &Unit, channel: &Channel) -> Result<(), StoreError> {
    channel::Entity::delete_by_id(channel.id)
        .exec(unit.db())
        .await?;
    Ok(())
}

/// Notes that the channel took something: it works.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_success(unit: &Unit, name: &ChannelName) -> Result<(), StoreError> {
    let change = channel::ActiveModel {
        disabled_at: Set(None),
        failure: Set(None),
        failing_since: Set(None),
        ..Default::default()
    };
    update(unit, name, change).await
}

/// Notes that an attempt failed, and whether the receiver wants nothing any more.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn note_failure(
    unit: &Unit,
    name: &ChannelName,
    why: &str,
    disabled: bool,
) -> Result<(), StoreError> {
    let Some(known) = find(unit.db(), name).await? else {
        return Ok(());
    };
    let disabled_at = known.disabled_at.or(disabled.then(|| unit.now()));
    let change = channel::ActiveModel {
        disabled_at: Set(disabled_at),
        failure: Set(Some(why.to_owned())),
        failing_since: Set(Some(known.failing_since.unwrap_or(unit.now()))),
        ..Default::default()
    };
    update(unit, name, change).await
}

async fn update(
    unit: &Unit,
    name: &ChannelName,
    change: channel::ActiveModel,
) -> Result<(), StoreError> {
    channel::Entity::update_many()
        .set(change)
        .filter(channel::Column::Name.eq(name.as_str()))
        .exec(unit.db())
        .await?;
    Ok(())
}
