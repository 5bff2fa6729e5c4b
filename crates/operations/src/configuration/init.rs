//! `init`: master key, deployment, keyrings with their first primary and standby. Each step idempotent.

use std::{collections::HashSet, sync::Arc};

use rekey_domain::{KeyState, Principal, Purpose};
use rekey_envelope::DataKey;
use rekey_store::{
    Store, Unit,
    audit::{self, AuditPen, Record},
    keyrings::{self, Keyring},
    keys,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, Change, Desired, KeyringConfig, OperationError, Services, authorise,
    backups::gate::gate, configuration::apply::missing_keyrings, keys::making::make_key,
};

/// Makes what is missing of a deployment: keyrings, first keys, standbys; answers what it made. Doing
/// it again makes nothing.
///
/// # Errors
/// [`OperationError`]; what was done before it stays, and doing it again goes on from there.
pub async fn init(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<Vec<Change>, OperationError> {
    authorise(principal, Action::Init)?;
    let store = &services.store;
    missing_keyrings(services, desired, principal).await?;
    let before = Inventory::of(store).await?;
    let unit = store.begin().await?;
    let deployment = keyrings::ensure_deployment(&unit).await?;
    unit.commit().await?;
    // The audit keyring comes first: without it nothing can be recorded, so nothing done.
    let (audit, others): (Vec<_>, Vec<_>) = desired
        .keyrings
        .iter()
        .partition(|k| k.purpose == Purpose::Audit);
    for wanted in audit.into_iter().chain(others) {
        let keyring = ensure_keyring(services, wanted, principal).await?;
        ensure_keys(services, deployment, &keyring, principal).await?;
    }
    Ok(Inventory::of(store).await?.made_since(&before))
}

/// The keyrings and keys of a store, as people call them.
struct Inventory(Vec<Change>);

impl Inventory {
    async fn of(store: &Store) -> Result<Self, OperationError> {
        let mut all = Vec::new();
        for keyring in keyrings::all(store.db()).await? {
            all.push(Change {
                subject: format!("keyring {}", keyring.name),
                change: "made".to_owned(),
            });
            for key in keys::of_keyring(store.db(), keyring.id).await? {
                all.push(Change {
                    subject: format!("key {}", key.name(&keyring)),
                    change: format!("made, {}", key.state),
                });
            }
        }
        Ok(Self(all))
    }

    fn made_since(mut self, before: &Self) -> Vec<Change> {
        let known: HashSet<_> = before.0.iter().map(|one| &one.subject).collect();
        self.0.retain(|one| !known.contains(&one.subject));
        self.0
    }
}

async fn ensure_keyring(
    services: &Services,
    wanted: &KeyringConfig,
    principal: &Principal,
) -> Result<Keyring, OperationError> {
    if let Some(found) = keyrings::find(services.store.db(), &wanted.name).await? {
        if found.purpose != wanted.purpose {
            let (name, has, asked) = (&wanted.name, found.purpose, wanted.purpose);
            return Err(OperationError::Configuration {
                place: format!("keyring {name}"),
                problem: format!(
                    "its purpose is {has} for good; {asked} was asked for. Use another name"
                ),
            });
        }
        return Ok(found);
    }
    if wanted.purpose == Purpose::Audit {
        return create_audit_keyring(services, wanted, principal).await;
    }
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    let keyring = create_keyring(&unit, wanted).await?;
    record_keyring(&unit, &pen, &keyring).await?;
    unit.commit().await?;
    Ok(keyring)
}

async fn create_keyring(unit: &Unit, wanted: &KeyringConfig) -> Result<Keyring, OperationError> {
    let KeyringConfig {
        name,
        purpose,
        algorithm,
        policy,
    } = wanted;
    Ok(keyrings::create(unit, name, *purpose, *algorithm, policy).await?)
}

/// The first AUDIT key seals the entry that records its own making.
async fn create_audit_keyring(
    services: &Services,
    wanted: &KeyringConfig,
    principal: &Principal,
) -> Result<Keyring, OperationError> {
    let store: &Store = &services.store;
    let deployment = keyrings::deployment(store.db()).await?;
    // The KMS wants the keyring's id before the keyring is stored, so a first unit makes only that.
    let unit = store.begin().await?;
    let keyring = create_keyring(&unit, wanted).await?;
    unit.commit().await?;
    first_audit_key(services, deployment, &keyring, principal).await?;
    Ok(keyring)
}

async fn first_audit_key(
    services: &Services,
    deployment: Uuid,
    keyring: &Keyring,
    principal: &Principal,
) -> Result<(), OperationError> {
    let made = make_key(&services.store, &*services.kms, deployment, keyring).await?;
    let sealing = DataKey::new(made.new.id, made.new.algorithm, &made.material)?;
    let pen = AuditPen::new(Arc::new(sealing), principal.clone());
    let unit = services.store.begin().await?;
    keyrings::lock(&unit, keyring.id).await?;
    if !keys::of_keyring(unit.db(), keyring.id).await?.is_empty() {
        return Ok(());
    }
    let key = keys::insert_standby(&unit, keyring.id, made.new).await?;
    let proof = gate(services, keyring, &key).await?;
    keys::switch(&unit, keyring, &key, &keyring.policy, proof).await?;
    keys::take_usage(&unit, key.id, 2, false).await?;
    record_keyring(&unit, &pen, keyring).await?;
    record_key(&unit, &pen, keyring, &key, audit::Action::KeyActivated).await?;
    unit.commit().await?;
    Ok(())
}

/// Sees to it that a keyring has a primary and a standby.
async fn ensure_keys(
    services: &Services,
    deployment: Uuid,
    keyring: &Keyring,
    principal: &Principal,
) -> Result<(), OperationError> {
    let has = |keys: &[keys::Key], state| keys.iter().any(|key| key.state == state);
    let present = keys::of_keyring(services.store.db(), keyring.id).await?;
    if present.is_empty() && keyring.purpose == Purpose::Audit {
        first_audit_key(services, deployment, keyring, principal).await?;
    } else if present.is_empty() {
        add_key(services, deployment, keyring, principal, true).await?;
    }
    let now = keys::of_keyring(services.store.db(), keyring.id).await?;
    if !has(&now, KeyState::Pending) {
        add_key(services, deployment, keyring, principal, false).await?;
    }
    Ok(())
}

async fn add_key(
    services: &Services,
    deployment: Uuid,
    keyring: &Keyring,
    principal: &Principal,
    as_primary: bool,
) -> Result<(), OperationError> {
    let made = make_key(&services.store, &*services.kms, deployment, keyring).await?;
    let pen = services.pen(principal).await?;
    let unit = services.store.begin().await?;
    // Another init may have been first.
    keyrings::lock(&unit, keyring.id).await?;
    let present = keys::of_keyring(unit.db(), keyring.id).await?;
    let standby = present.iter().any(|key| key.state == KeyState::Pending);
    if standby || (as_primary && !present.is_empty()) {
        return Ok(());
    }
    let key = keys::insert_standby(&unit, keyring.id, made.new).await?;
    if as_primary {
        let proof = gate(services, keyring, &key).await?;
        keys::switch(&unit, keyring, &key, &keyring.policy, proof).await?;
    }
    record_key(
        &unit,
        &pen,
        keyring,
        &key,
        if as_primary {
            audit::Action::KeyActivated
        } else {
            audit::Action::KeyCreated
        },
    )
    .await?;
    unit.commit().await?;
    Ok(())
}

async fn record_keyring(
    unit: &Unit,
    pen: &AuditPen,
    keyring: &Keyring,
) -> Result<(), OperationError> {
    let subject = keyring.name.to_string();
    let details = json!({ "purpose": keyring.purpose, "algorithm": keyring.algorithm, "policy": keyring.policy });
    let record = Record {
        action: audit::Action::KeyringCreated,
        subject: &subject,
        outcome: "done",
        details,
    };
    Ok(pen.append(unit, record).await?)
}

async fn record_key(
    unit: &Unit,
    pen: &AuditPen,
    keyring: &Keyring,
    key: &keys::Key,
    action: audit::Action,
) -> Result<(), OperationError> {
    let subject = key.name(keyring).to_string();
    let details =
        json!({ "key_id": key.id, "algorithm": key.algorithm, "backup": keyring.policy.backup });
    Ok(pen
        .append(
            unit,
            Record {
                action,
                subject: &subject,
                outcome: "done",
                details,
            },
        )
        .await?)
}
