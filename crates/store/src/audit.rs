//! The audit log: an append-only chain of hashes, with encrypted details beside it.

mod actions;
pub(crate) mod entities;

use std::sync::Arc;

use rekey_domain::{BindValue, Principal};
use rekey_envelope::{DataKey, associated_data};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockType, OnConflict},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use crate::audit::actions::Action;
pub use crate::audit::entities::audit_entry::Model as AuditEntry;
use crate::{
    StoreError, Unit,
    audit::entities::{audit_detail, audit_entry, audit_head},
    database::stored::Text,
    keys,
};

impl AuditEntry {
    /// Who did it.
    pub fn principal(&self) -> &Principal {
        &self.principal.0
    }
}

/// The column id that details are bound to: `audit_detail` is a protected table of the store itself.
pub const DETAILS_COLUMN_ID: &str = "rekey.audit_detail.details";
const HEAD: i32 = 1;

/// Seals details under the AUDIT keyring's primary key, which was obtained before the unit began:
/// `audit_head` is never locked across a KMS call.
#[derive(Clone)]
pub struct AuditPen {
    key: Option<Arc<DataKey>>,
    principal: Principal,
}

/// What happened.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// What was done.
    pub action: Action,
    /// To what, such as `phi/3`.
    pub subject: &'a str,
    /// `done`, or why not.
    pub outcome: &'a str,
    /// More, encrypted; never a secret and no PHI all the same.
    pub details: Value,
}

impl AuditPen {
    /// The pen of `principal`.
    pub fn new(key: Arc<DataKey>, principal: Principal) -> Self {
        let key = Some(key);
        Self { key, principal }
    }

    /// A pen that keeps details to itself: for what cannot wait until an AUDIT key is opened.
    pub fn withholding(principal: Principal) -> Self {
        Self {
            key: None,
            principal,
        }
    }

    /// Whose pen it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The same pen, for another principal.
    #[must_use]
    pub fn of(&self, principal: Principal) -> Self {
        Self {
            key: self.key.clone(),
            principal,
        }
    }

    /// Appends an entry to the chain. Last in a unit: it locks the head.
    ///
    /// # Errors
    /// [`StoreError::Audit`] when details cannot be sealed. No audit record, no operation (rule 8).
    /// [`StoreError::Stale`] when another AUDIT key took the place of the pen's since the pen was made: whoever replaces
    /// it appends an entry too, so under the lock of the head this one comes before that or is refused.
    pub async fn append(&self, unit: &Unit, record: Record<'_>) -> Result<(), StoreError> {
        let head = lock_head(unit).await?;
        if let Some(key) = &self.key {
            keys::refuse_replaced(unit, key.id()).await?;
        }
        let sequence = head.sequence + 1;
        let salted = match self.key {
            Some(_) => {
                json!({ "salt": hex::encode(rand::random::<[u8; 16]>()), "details": record.details })
                    .to_string()
            }
            None => String::new(),
        };
        let mut entry = AuditEntry {
            sequence,
            time: unit.now(),
            principal: Text(self.principal.clone()),
            action: record.action.name().to_owned(),
            subject: record.subject.to_owned(),
            outcome: record.outcome.to_owned(),
            details_hash: Sha256::digest(&salted).to_vec(),
            previous_hash: head.hash,
            hash: Vec::new(),
            written_by: None,
        };
        entry.hash = entry_hash(&entry);
        let bound = associated_data(DETAILS_COLUMN_ID, &[BindValue::Integer(sequence)]);
        let sealed = match &self.key {
            Some(key) => key.encrypt(salted.as_bytes(), &bound),
            None => Ok(Vec::new()),
        };
        let sealed = sealed.map_err(|error| StoreError::Audit(error.to_string()))?;
        store(unit, entry, sealed).await
    }
}

/// Whether a report's entry was written without its details. Its hash tells, so removing the details later does not
/// make it look withheld.
pub fn is_withheld(entry: &AuditEntry, details: Option<&[u8]>) -> bool {
    let of_reports = [
        Action::IncidentNoted,
        Action::IncidentOpened,
        Action::KeyActivated,
        Action::KeyCompromised,
    ];
    let of_report = of_reports
        .iter()
        .any(|action| action.name() == entry.action);
    let nothing = Sha256::digest("").to_vec();
    of_report && entry.details_hash == nothing && details.is_some_and(<[u8]>::is_empty)
}

/// The head, which the first writer makes; of two first writers one waits for the other.
async fn lock_head(unit: &Unit) -> Result<audit_head::Model, StoreError> {
    if let Some(head) = find_head(unit).await? {
        return Ok(head);
    }
    let genesis = audit_head::ActiveModel {
        id: Set(HEAD),
        sequence: Set(0),
        hash: Set(vec![0; 32]),
    };
    let unless_there = OnConflict::column(audit_head::Column::Id)
        .do_nothing()
        .to_owned();
    audit_head::Entity::insert(genesis)
        .on_conflict(unless_there)
        .exec_without_returning(unit.db())
        .await?;
    let head = find_head(unit).await?;
    Ok(head.expect("the head was just made, and is never removed"))
}

async fn find_head(unit: &Unit) -> Result<Option<audit_head::Model>, StoreError> {
    Ok(audit_head::Entity::find_by_id(HEAD)
        .lock(LockType::Update)
        .one(unit.db())
        .await?)
}

async fn store(unit: &Unit, entry: AuditEntry, details: Vec<u8>) -> Result<(), StoreError> {
    let (sequence, hash) = (entry.sequence, entry.hash.clone());
    // The database says who wrote it, so that is no part of the hash.
    let row = audit_entry::ActiveModel {
        written_by: NotSet,
        ..entry.into()
    };
    audit_entry::Entity::insert(row)
        .exec_without_returning(unit.db())
        .await?;
    let detail = audit_detail::ActiveModel {
        sequence: Set(sequence),
        details: Set(details),
    };
    audit_detail::Entity::insert(detail)
        .exec_without_returning(unit.db())
        .await?;
    audit_head::Entity::update_many()
        .set(audit_head::ActiveModel {
            sequence: Set(sequence),
            hash: Set(hash),
            ..Default::default()
        })
        .filter(audit_head::Column::Id.eq(HEAD))
        .exec(unit.db())
        .await?;
    Ok(())
}

/// The hash of an entry: SHA-256 of a JSON array of its fields (`docs/format/`).
pub fn entry_hash(entry: &AuditEntry) -> Vec<u8> {
    let fields = json!([
        entry.sequence,
        entry
            .time
            .to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        entry.principal.0,
        entry.action,
        entry.subject,
        entry.outcome,
        hex::encode(&entry.details_hash),
        hex::encode(&entry.previous_hash),
    ]);
    Sha256::digest(fields.to_string()).to_vec()
}

/// The entries of these actions, the latest first.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_actions(
    db: &impl ConnectionTrait,
    actions: &[Action],
) -> Result<Vec<AuditEntry>, StoreError> {
    let names = actions.iter().map(|action| action.name());
    let entries = audit_entry::Entity::find()
        .filter(audit_entry::Column::Action.is_in(names))
        .order_by_desc(audit_entry::Column::Sequence);
    Ok(entries.all(db).await?)
}

/// Up to `limit` entries after `after`, with their sealed details if those are there.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn page(
    db: &impl ConnectionTrait,
    after: i64,
    limit: u64,
) -> Result<Vec<(AuditEntry, Option<Vec<u8>>)>, StoreError> {
    let later = audit_entry::Column::Sequence.gt(after);
    let entries = audit_entry::Entity::find()
        .filter(later)
        .order_by_asc(audit_entry::Column::Sequence);
    let entries = entries.limit(limit).all(db).await?;
    let sequences = entries.iter().map(|entry| entry.sequence);
    let details = audit_detail::Entity::find()
        .filter(audit_detail::Column::Sequence.is_in(sequences))
        .all(db)
        .await?;
    let with_details = |entry: AuditEntry| {
        let detail = details
            .iter()
            .find(|detail| detail.sequence == entry.sequence);
        (entry, detail.map(|detail| detail.details.clone()))
    };
    Ok(entries.into_iter().map(with_details).collect())
}

/// The entries about `subject`, in the order of the log and without details. Not by time: where clocks differed, an act
/// may be dated before the thing that it was done to.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn of_subject(
    db: &impl ConnectionTrait,
    subject: &str,
) -> Result<Vec<AuditEntry>, StoreError> {
    use audit_entry::Column::{Sequence, Subject};
    Ok(audit_entry::Entity::find()
        .filter(Subject.eq(subject))
        .filter(Sequence.gt(0))
        .order_by_asc(Sequence)
        .all(db)
        .await?)
}

/// The first entry of this action after another, without details.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn next_of(
    db: &impl ConnectionTrait,
    action: Action,
    after: &AuditEntry,
) -> Result<Option<AuditEntry>, StoreError> {
    Ok(audit_entry::Entity::find()
        .filter(audit_entry::Column::Action.eq(action.to_string()))
        .filter(audit_entry::Column::Sequence.gt(after.sequence))
        .order_by_asc(audit_entry::Column::Sequence)
        .one(db)
        .await?)
}

/// The sequence and hash of the last entry, if there is one.
///
/// # Errors
/// [`StoreError`] of the database.
pub async fn head(db: &impl ConnectionTrait) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    Ok(audit_head::Entity::find_by_id(HEAD)
        .one(db)
        .await?
        .map(|head| (head.sequence, head.hash)))
}

#[cfg(test)]
mod tests {
    use rekey_domain::{Algorithm, BackupProof, KeyId, KeyringPolicy};
    use rekey_envelope::KeyMaterial;
    use sea_orm::sea_query::{Expr, ExprTrait};

    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore, new_key},
        keys::keyrings::{self, Keyring},
    };

    /// A pen with the primary key of a keyring that is made for it.
    async fn pen(store: &TestStore) -> AuditPen {
        let keyring = store.keyring("audit").await;
        let unit = store.unit().await;
        make_primary(&unit, &keyring, 1).await;
        unit.commit().await.unwrap();
        pen_with(1)
    }

    async fn make_primary(unit: &Unit, keyring: &Keyring, id: u32) {
        let keyring = keyrings::by_id(unit.db(), keyring.id).await.unwrap();
        let key = keys::insert_standby(unit, keyring.id, new_key(id)).await;
        let (policy, proof) = (KeyringPolicy::default(), Some(BackupProof::NotRequired));
        let switched = keys::switch(unit, &keyring, &key.unwrap(), &policy, proof).await;
        switched.unwrap();
    }

    fn pen_with(key: u32) -> AuditPen {
        let material = KeyMaterial::generate();
        let key = DataKey::new(KeyId::new(key), Algorithm::Aes256Gcm, &material).unwrap();
        AuditPen::new(Arc::new(key), Principal::os("ana", "clinic"))
    }

    async fn write(store: &Store, pen: &AuditPen, subject: &str) {
        let unit = store.begin().await.unwrap();
        let record = Record {
            action: Action::KeyCreated,
            subject,
            outcome: "done",
            details: json!({ "canary": subject }),
        };
        pen.append(&unit, record).await.unwrap();
        unit.commit().await.unwrap();
    }

    async fn written(kind: Kind, entries: i64) -> TestStore {
        let store = TestStore::new(kind).await;
        let pen = pen(&store).await;
        for entry in 1..=entries {
            write(&store, &pen, &format!("phi/{entry}")).await;
        }
        store
    }

    /// The entries that do not continue the one before them, or are not what was hashed; and
    /// whether the head names the last.
    async fn broken(store: &Store) -> (Vec<i64>, bool) {
        let (mut broken, mut last) = (Vec::new(), (0, vec![0; 32]));
        for (entry, _) in page(store.db(), 0, 1_000).await.unwrap() {
            let continues = entry.sequence == last.0 + 1 && entry.previous_hash == last.1;
            if !continues || entry_hash(&entry) != entry.hash {
                broken.push(entry.sequence);
            }
            last = (entry.sequence, entry.hash);
        }
        (broken, head(store.db()).await.unwrap() == Some(last))
    }

    /// Whoever stood still between taking the pen and writing with it; the key's last lease, and the count of what stands
    /// under it, may be over by then.
    #[tokio::test]
    async fn a_pen_whose_key_was_replaced_writes_nothing_but_in_the_unit_that_replaces_it() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let before = pen(&store).await;
            let keyring = keyrings::all(store.db()).await.unwrap().remove(0);
            let record = || Record {
                action: Action::KeyActivated,
                subject: "audit/2",
                outcome: "done",
                details: json!({}),
            };
            let unit = store.unit().await;
            make_primary(&unit, &keyring, 2).await;
            before.append(&unit, record()).await.unwrap();
            unit.commit().await.unwrap();

            let unit = store.unit().await;
            let late = before.append(&unit, record()).await;
            assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
            drop(unit);
            write(&store, &pen_with(2), "phi/1").await;
            assert_eq!(broken(&store).await, (vec![], true));
        }
    }

    #[tokio::test]
    async fn every_entry_continues_the_one_before_it_up_to_the_head() {
        for kind in Kind::BOTH {
            let store = written(kind, 30).await;
            assert_eq!(broken(&store).await, (vec![], true));
            assert_eq!(head(store.db()).await.unwrap().unwrap().0, 30);
            let page = page(store.db(), 10, 5).await.unwrap();
            let sequences: Vec<_> = page.iter().map(|(entry, _)| entry.sequence).collect();
            assert_eq!(sequences, [11, 12, 13, 14, 15]);
            assert!(page.iter().all(|(_, details)| details.is_some()));
        }
    }

    #[tokio::test]
    async fn a_changed_entry_is_found() {
        for kind in Kind::BOTH {
            for column in [
                audit_entry::Column::Action,
                audit_entry::Column::Subject,
                audit_entry::Column::Outcome,
            ] {
                let store = written(kind, 5).await;
                let changed = audit_entry::Entity::update_many()
                    .col_expr(column, Expr::value("something else"))
                    .filter(audit_entry::Column::Sequence.eq(3));
                changed.exec(store.db()).await.unwrap();
                assert_eq!(broken(&store).await, (vec![3], true));
            }
        }
    }

    #[tokio::test]
    async fn a_deleted_entry_is_found_wherever_it_stood() {
        for kind in Kind::BOTH {
            for (deleted, expected) in [
                (1, (vec![2], true)),
                (3, (vec![4], true)),
                (5, (vec![], false)),
            ] {
                let store = written(kind, 5).await;
                audit_entry::Entity::delete_by_id(deleted)
                    .exec(store.db())
                    .await
                    .unwrap();
                assert_eq!(broken(&store).await, expected, "entry {deleted}");
            }
        }
    }

    #[tokio::test]
    async fn an_entry_put_in_between_is_found() {
        for kind in Kind::BOTH {
            let store = written(kind, 5).await;
            let later = Expr::col(audit_entry::Column::Sequence).add(100);
            let moved = audit_entry::Entity::update_many()
                .col_expr(audit_entry::Column::Sequence, later)
                .filter(audit_entry::Column::Sequence.gt(3));
            moved.exec(store.db()).await.unwrap();
            assert_ne!(broken(&store).await, (vec![], true));
        }
    }

    #[tokio::test]
    async fn what_was_rolled_back_leaves_no_gap() {
        for kind in Kind::BOTH {
            let store = written(kind, 2).await;
            let pen = pen_with(1);
            let unit = store.unit().await;
            let record = Record {
                action: Action::KeyCreated,
                subject: "phi/3",
                outcome: "done",
                details: json!({}),
            };
            pen.append(&unit, record).await.unwrap();
            drop(unit);
            write(&store, &pen, "phi/3").await;
            assert_eq!(broken(&store).await, (vec![], true));
            assert_eq!(head(store.db()).await.unwrap().unwrap().0, 3);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn writers_at_work_together_make_one_chain() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            pen(&store).await;
            let writers = [store.clone(), store.clone(), store.another().await];
            let writers = writers.map(|store| {
                let pen = pen_with(1);
                tokio::spawn(async move {
                    for _ in 0..10 {
                        write(&store, &pen, "phi/1").await;
                    }
                })
            });
            for writer in writers {
                writer.await.unwrap();
            }
            assert_eq!(broken(&store).await, (vec![], true));
            assert_eq!(head(store.db()).await.unwrap().unwrap().0, 30);
        }
    }

    #[tokio::test]
    async fn first_writers_at_work_together_make_one_chain() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let elsewhere = store.another().await;
            let pen = pen(&store).await;
            for _ in 0..4 {
                forget_everything(&store).await;
                let here = write(&store, &pen, "phi/1");
                tokio::join!(here, write(&elsewhere, &pen, "phi/2"));
                assert_eq!(broken(&store).await, (vec![], true));
                assert_eq!(head(store.db()).await.unwrap().unwrap().0, 2);
            }
        }
    }

    async fn forget_everything(store: &Store) {
        let unit = store.begin().await.unwrap();
        let db = unit.db();
        audit_head::Entity::delete_many().exec(db).await.unwrap();
        audit_entry::Entity::delete_many().exec(db).await.unwrap();
        audit_detail::Entity::delete_many().exec(db).await.unwrap();
        unit.commit().await.unwrap();
    }

    #[tokio::test]
    async fn details_are_stored_under_the_key_only() {
        for kind in Kind::BOTH {
            let store = written(kind, 1).await;
            let (entry, details) = page(store.db(), 0, 1).await.unwrap().remove(0);
            let details = details.unwrap();
            assert!(!details.windows(6).any(|window| window == b"canary"));
            assert_ne!(Sha256::digest(&details)[..], entry.details_hash);
        }
    }
}
