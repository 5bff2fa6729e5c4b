//! What the store knows beside keys: with it and the keys every value decrypts, though the store is lost and a table was renamed.

use chrono::{DateTime, Utc};
use rekey_domain::{
    Algorithm, Bind, BindType, ChannelKind, ChannelName, ChannelPolicy, DestinationName,
    KeyringName, KeyringPolicy, Limits, Principal, Purpose, TextEncoding, Triggers,
};
use rekey_envelope::encode_base64;
use rekey_store::{
    ConnectionTrait, StoreError,
    backups::{
        destinations,
        recovery_keys::{self, StoredRecoveryKey},
    },
    channels,
    columns::{self, Protected},
    keyrings,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// All of it. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contents {
    pub(crate) deployment: Uuid,
    pub(crate) keyrings: Vec<Keyring>,
    pub(crate) sources: Vec<Source>,
    pub(crate) tables: Vec<Table>,
    pub(crate) columns: Vec<Column>,
    pub(crate) destinations: Vec<DestinationName>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) recovery_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) public_recovery_keys: Vec<PublicRecoveryKey>,
}

/// The public half of a RECOVERY key that bundles are sealed to, and its shares by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PublicRecoveryKey {
    pub(crate) fingerprint: String,
    pub(crate) public_key: String,
    pub(crate) share_set: Uuid,
    pub(crate) threshold: u8,
    pub(crate) shares: u8,
    pub(crate) made_by: Principal,
}

/// A keyring; which key is its primary is in checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keyring {
    pub(crate) id: Uuid,
    pub(crate) name: KeyringName,
    pub(crate) purpose: Purpose,
    pub(crate) algorithm: Algorithm,
    pub(crate) policy: KeyringPolicy,
    pub(crate) created_at: DateTime<Utc>,
}

/// A source, without its password: the store has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) limits: Limits,
    pub(crate) database_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) id: Uuid,
    pub(crate) source: Uuid,
    pub(crate) name: String,
    pub(crate) relation: String,
    pub(crate) triggers: Triggers,
    pub(crate) publications_accepted: Option<bool>,
}

/// A protected column, with all that its values are bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) id: Uuid,
    pub(crate) table: Uuid,
    pub(crate) keyring: Uuid,
    pub(crate) name: String,
    pub(crate) column_id: String,
    pub(crate) bind: Bind,
    pub(crate) bind_columns: Vec<String>,
    pub(crate) bind_types: Option<Vec<BindType>>,
    pub(crate) encoding: TextEncoding,
    pub(crate) identity: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    pub(crate) kind: ChannelKind,
    pub(crate) policy: ChannelPolicy,
}

impl Contents {
    /// As the store has it now.
    pub(crate) async fn of(db: &impl ConnectionTrait) -> Result<Self, StoreError> {
        let protected = columns::all(db).await?;
        let (mut sources, mut tables) = (Vec::<Source>::new(), Vec::<Table>::new());
        for column in &protected {
            if sources.iter().all(|one| one.id != column.source.id) {
                sources.push(source(column));
            }
            if tables.iter().all(|one| one.id != column.table.id) {
                tables.push(table(column));
            }
        }
        let keyrings = keyrings::all(db).await?.into_iter();
        let destinations = destinations::all(db).await?.into_iter();
        let channels = channels::all(db).await?.into_iter();
        let recovery_keys = recovery_keys::all(db).await?;
        let in_use = recovery_keys.iter().filter(|key| key.ended_at.is_none());
        Ok(Self {
            deployment: keyrings::deployment(db).await?,
            keyrings: keyrings.map(Keyring::from).collect(),
            sources,
            tables,
            columns: protected.iter().map(Column::from).collect(),
            destinations: destinations.map(|one| one.name).collect(),
            channels: channels.map(Channel::from).collect(),
            public_recovery_keys: in_use.map(PublicRecoveryKey::from).collect(),
            recovery_keys: recovery_keys
                .into_iter()
                .map(|one| one.fingerprint)
                .collect(),
        })
    }

    /// As it is sealed. The same gives the same bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and lists of them are JSON")
    }
}

fn source(column: &Protected) -> Source {
    let source = &column.source;
    Source {
        id: source.id,
        name: source.name.clone(),
        url: source.url.clone(),
        limits: source.limits(),
        database_id: source.database_id.clone(),
    }
}

fn table(column: &Protected) -> Table {
    let table = &column.table;
    Table {
        id: table.id,
        source: table.source_id,
        name: table.name.clone(),
        relation: table.relation.clone(),
        triggers: table.triggers(),
        publications_accepted: table.publications_accepted,
    }
}

impl From<&Protected> for Column {
    fn from(column: &Protected) -> Self {
        let spec = &column.spec;
        Self {
            id: column.id,
            table: column.table.id,
            keyring: column.keyring_id,
            name: spec.name.column.clone(),
            column_id: spec.column_id.clone(),
            bind: spec.bind.clone(),
            bind_columns: spec.bind_columns.clone(),
            bind_types: spec.bind_types.clone(),
            encoding: spec.encoding,
            identity: column.identity.clone(),
        }
    }
}

impl From<keyrings::Keyring> for Keyring {
    fn from(keyring: keyrings::Keyring) -> Self {
        Self {
            id: keyring.id,
            name: keyring.name,
            purpose: keyring.purpose,
            algorithm: keyring.algorithm,
            policy: keyring.policy,
            created_at: keyring.created_at,
        }
    }
}

impl From<&StoredRecoveryKey> for PublicRecoveryKey {
    fn from(key: &StoredRecoveryKey) -> Self {
        let number = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            fingerprint: key.fingerprint.clone(),
            public_key: encode_base64(&key.public_key),
            share_set: key.share_set,
            threshold: number(key.threshold),
            shares: number(key.shares),
            made_by: key.made_by.clone(),
        }
    }
}

impl From<channels::Channel> for Channel {
    fn from(channel: channels::Channel) -> Self {
        Self {
            name: channel.name,
            kind: channel.kind,
            policy: channel.policy,
        }
    }
}
