//! `init`: master key, deployment, keyrings with their first primary and standby. Each step idempotent.

use std::{collections::HashSet, sync::Arc};

use rekey_domain::{BackupPolicy, BackupProof, KeyName, KeyState, Principal, Purpose};
use rekey_envelope::{DataKey, KeyMaterial};
use rekey_store::{
    Store, Unit,
    audit::{self, AuditPen, Record},
    backups::{
        self,
        bundles::{self, Backup, NewBackup},
    },
    keyrings::{self, Keyring},
    keys::{self, Key},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Action, Change, Desired, KeyringConfig, OperationError, Services, authorise,
    backups::{
        sealing::{Trouble, unwrap},
        storing,
        work::prove_new,
    },
    configuration::apply::{backed_up, missing_keyrings},
    keys::making::make_key,
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
    backed_up::refuse_nowhere(store.db(), desired).await?;
    let before = Inventory::of(store).await?;
    let unit = store.begin().await?;
    let deployment = keyrings::ensure_deployment(&unit).await?;
    backed_up::declare(&unit, desired).await?;
    unit.commit().await?;
    let maker = Maker {
        services,
        desired,
        deployment,
        principal,
        replaces: false,
    };
    maker.first_audit_key().await?;
    for wanted in &desired.keyrings {
        let keyring = maker.keyring(wanted).await?;
        maker.keys(&keyring).await?;
    }
    Ok(Inventory::of(store).await?.made_since(&before))
}

/// Gives every keyring of the store that has no primary key a new one, and a standby, backed up and proved as first keys
/// are: the keys there were restored, and never encrypt.
///
/// # Errors
/// As [`init`].
pub(crate) async fn new_primaries(
    services: &Services,
    desired: &Desired,
    principal: &Principal,
) -> Result<(), OperationError> {
    let db = services.store.db();
    let maker = Maker {
        services,
        desired,
        deployment: keyrings::deployment(db).await?,
        principal,
        replaces: true,
    };
    maker.first_audit_key().await?;
    for keyring in keyrings::all(db).await? {
        maker.keys(&keyring).await?;
    }
    Ok(())
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

/// Who makes what is missing.
struct Maker<'a> {
    services: &'a Services,
    desired: &'a Desired,
    deployment: Uuid,
    principal: &'a Principal,
    /// Whether a keyring without a primary key gets one though it had one before.
    replaces: bool,
}

impl Maker<'_> {
    /// The first AUDIT key, and before it the first BACKUP key, without which it would have no backup. Nothing can be
    /// recorded until it is there, so its first unit records both.
    async fn first_audit_key(&self) -> Result<(), OperationError> {
        let of = |purpose| {
            let mut all = self.desired.keyrings.iter();
            all.find(|wanted| wanted.purpose == purpose)
        };
        let Some(audit) = of(Purpose::Audit) else {
            return Ok(());
        };
        let found = keyrings::find(self.services.store.db(), &audit.name).await?;
        if found.is_some_and(|keyring| keyring.primary_key_id.is_some()) {
            return Ok(());
        }
        let mut unrecorded = Vec::new();
        if let Some(wanted) = of(Purpose::Backup) {
            let (keyring, key, _) = self.unrecorded(wanted).await?;
            let proof = self.proof(&keyring, &key, false).await?;
            if key.state == KeyState::Pending {
                let unit = self.services.store.begin().await?;
                keys::switch(&unit, &keyring, &key, &keyring.policy, proof).await?;
                unit.commit().await?;
            }
            unrecorded.push((keyring, key));
        }
        let (keyring, key, material) = self.unrecorded(audit).await?;
        let proof = self.proof(&keyring, &key, false).await?;
        let sealing = DataKey::new(key.id, key.algorithm, &material)?;
        let pen = AuditPen::new(Arc::new(sealing), self.principal.clone());
        let unit = self.services.store.begin().await?;
        keyrings::lock(&unit, keyring.id).await?;
        let still = keys::find(unit.db(), key.id).await?;
        if still.is_none_or(|now| now.state != KeyState::Pending) {
            return Ok(());
        }
        keys::switch(&unit, &keyring, &key, &keyring.policy, proof).await?;
        let backups = bundles::all(unit.db()).await?;
        unrecorded.push((keyring, key.clone()));
        let entries = 2 * unrecorded.len() + backups.len();
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        keys::take_usage(&unit, key.id, entries, false).await?;
        for (made, first) in &unrecorded {
            // Another than the first takes the place of restored ones.
            if first.version == 1 {
                record_keyring(&unit, &pen, made).await?;
            }
            record_key(&unit, &pen, made, first, audit::Action::KeyActivated).await?;
            for backup in backups.iter().filter(|backup| backup.key == first.id) {
                record_backup(&unit, &pen, &first.name(made), backup).await?;
            }
        }
        Ok(unit.commit().await?)
    }

    /// A keyring and its first key, made before anything can be recorded.
    async fn unrecorded(
        &self,
        wanted: &KeyringConfig,
    ) -> Result<(Keyring, Key, KeyMaterial), OperationError> {
        let store = &self.services.store;
        let keyring = match self.found(wanted).await? {
            Some(keyring) => keyring,
            None => {
                // The KMS wants the keyring's id before the keyring is stored, so a first unit makes only that.
                let unit = store.begin().await?;
                let keyring = self.create(&unit, wanted).await?;
                unit.commit().await?;
                keyring
            }
        };
        // What an init before this one left behind may have no material here.
        let stored = keys::stored_of_keyring(store.db(), keyring.id).await?;
        let usable =
            |key: &keys::StoredKey| matches!(key.state, KeyState::Pending | KeyState::Active);
        if let Some(stored) = stored.into_iter().find(usable) {
            let unwrapped = unwrap(self.services, self.deployment, keyring, stored).await;
            let unwrapped = unwrapped.map_err(Trouble::into_error)?;
            return Ok((unwrapped.keyring, unwrapped.key.key, unwrapped.material));
        }
        let made = make_key(store, &*self.services.kms, self.deployment, &keyring).await?;
        let unit = store.begin().await?;
        let key = keys::insert_standby(&unit, keyring.id, made.new).await?;
        unit.commit().await?;
        Ok((keyring, key, made.material))
    }

    async fn found(&self, wanted: &KeyringConfig) -> Result<Option<Keyring>, OperationError> {
        let found = keyrings::find(self.services.store.db(), &wanted.name).await?;
        match found {
            Some(found) if found.purpose != wanted.purpose => {
                let (name, has, asked) = (&wanted.name, found.purpose, wanted.purpose);
                Err(OperationError::Configuration {
                    place: format!("keyring {name}"),
                    problem: format!(
                        "its purpose is {has} for good; {asked} was asked for. Use another name"
                    ),
                })
            }
            // An init before this one was cut short: what the file says by now holds.
            Some(unused) if unused.primary_key_id.is_none() => {
                let policy = wanted.policy_over(None, self.desired.backup);
                let unit = self.services.store.begin().await?;
                keyrings::set_policy(&unit, unused.id, &policy).await?;
                let keyring = keyrings::by_id(unit.db(), unused.id).await?;
                unit.commit().await?;
                Ok(Some(keyring))
            }
            found => Ok(found),
        }
    }

    async fn keyring(&self, wanted: &KeyringConfig) -> Result<Keyring, OperationError> {
        if let Some(found) = self.found(wanted).await? {
            return Ok(found);
        }
        let pen = self.services.pen(self.principal).await?;
        let unit = self.services.store.begin().await?;
        let keyring = self.create(&unit, wanted).await?;
        record_keyring(&unit, &pen, &keyring).await?;
        unit.commit().await?;
        Ok(keyring)
    }

    async fn create(&self, unit: &Unit, wanted: &KeyringConfig) -> Result<Keyring, OperationError> {
        let policy = wanted.policy_over(None, self.desired.backup);
        let KeyringConfig {
            name,
            purpose,
            algorithm,
            ..
        } = wanted;
        Ok(keyrings::create(unit, name, *purpose, *algorithm, &policy).await?)
    }

    /// Sees to it that a keyring has a primary and a standby. The verifier backs the standby up.
    async fn keys(&self, keyring: &Keyring) -> Result<(), OperationError> {
        let db = self.services.store.db();
        let was_primary = |key: &Key| match self.replaces {
            true => key.state == KeyState::Active,
            false => key.activated_at.is_some(),
        };
        let mut present = keys::of_keyring(db, keyring.id).await?;
        if !present.iter().any(was_primary) {
            let first = match present.iter().find(|key| key.state == KeyState::Pending) {
                Some(first) => Some(first.clone()),
                None => self.standby(keyring).await?,
            };
            if let Some(first) = first {
                self.activate(keyring, &first).await?;
            }
            present = keys::of_keyring(db, keyring.id).await?;
        }
        if !present.iter().any(|key| key.state == KeyState::Pending) {
            self.standby(keyring).await?;
        }
        Ok(())
    }

    /// Makes a standby; none where another init was first.
    async fn standby(&self, keyring: &Keyring) -> Result<Option<Key>, OperationError> {
        let Services { store, kms, .. } = self.services;
        let made = make_key(store, &**kms, self.deployment, keyring).await?;
        let pen = self.services.pen(self.principal).await?;
        let unit = store.begin().await?;
        keyrings::lock(&unit, keyring.id).await?;
        let present = keys::of_keyring(unit.db(), keyring.id).await?;
        if present.iter().any(|key| key.state == KeyState::Pending) {
            return Ok(None);
        }
        let key = keys::insert_standby(&unit, keyring.id, made.new).await?;
        record_key(&unit, &pen, keyring, &key, audit::Action::KeyCreated).await?;
        unit.commit().await?;
        Ok(Some(key))
    }

    /// Makes a keyring's first key its primary, backed up and proved.
    async fn activate(&self, keyring: &Keyring, key: &Key) -> Result<(), OperationError> {
        let proof = self.proof(keyring, key, true).await?;
        let pen = self.services.pen(self.principal).await?;
        let unit = self.services.store.begin().await?;
        let locked = keyrings::lock(&unit, keyring.id).await?;
        if locked.primary_key_id.is_some() {
            return Ok(());
        }
        keys::switch(&unit, keyring, key, &keyring.policy, proof).await?;
        record_key(&unit, &pen, keyring, key, audit::Action::KeyActivated).await?;
        Ok(unit.commit().await?)
    }

    /// The proof that a key may become primary. Where one is asked for and there is none, it is made.
    async fn proof(
        &self,
        keyring: &Keyring,
        key: &Key,
        is_audited: bool,
    ) -> Result<Option<BackupProof>, OperationError> {
        if keyring.policy.backup == BackupPolicy::Off || key.state != KeyState::Pending {
            return Ok(Some(BackupProof::NotRequired));
        }
        if self.services.backups.is_empty() {
            return Err(backed_up::needs_destination(keyring.name.as_str()));
        }
        prove_new(self.services, keyring, key, self.principal, is_audited).await?;
        let db = self.services.store.db();
        Ok(backups::proof_of(db, keyring.policy.backup, key.id).await?)
    }
}

async fn record_backup(
    unit: &Unit,
    pen: &AuditPen,
    key: &KeyName,
    backup: &Backup,
) -> Result<(), OperationError> {
    let new = NewBackup {
        key: backup.key,
        destination: &backup.destination,
        name: backup.name.clone(),
        backup_key: backup.backup_key,
        recovery: backup.recovery.clone(),
    };
    Ok(storing::record(unit, pen, key, &new).await?)
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
