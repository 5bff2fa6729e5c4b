//! Reading the audit log: its latest entries, and `audit verify`, which recomputes the chain, opens the details and
//! checks who wrote each entry.

mod verdict;
mod writers;

use rekey_domain::{BindValue, Principal};
use rekey_envelope::Ciphertext;
use rekey_store::{
    ConnectionTrait, StoreError,
    audit::{self, AuditEntry, DETAILS_COLUMN_ID},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::verdict::AuditVerdict;
use self::writers::Writers;
use crate::{Action, Desired, OperationError, Services, authorise};

const PAGE: u64 = 500;

/// The latest entries, oldest first; their details stay sealed.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn latest_audit_entries(
    services: &Services,
    most: u32,
    principal: &Principal,
) -> Result<Vec<AuditEntry>, OperationError> {
    authorise(principal, Action::ReadAudit)?;
    let db = services.store.db();
    let last = audit::head(db).await?.map_or(0, |(sequence, _)| sequence);
    let page = audit::page(db, last.saturating_sub(i64::from(most)), u64::from(most)).await?;
    Ok(page.into_iter().map(|(entry, _)| entry).collect())
}

/// One entry, with what its details say where they can be opened.
///
/// # Errors
/// [`OperationError::Store`] where there is none of this number.
pub async fn audit_entry(
    services: &Services,
    sequence: i64,
    principal: &Principal,
) -> Result<(AuditEntry, Option<Value>), OperationError> {
    authorise(principal, Action::ReadAudit)?;
    let page = audit::page(services.store.db(), sequence.saturating_sub(1), 1).await?;
    let mut found = page.into_iter().map(|(entry, _)| entry);
    let found = found.find(|entry| entry.sequence == sequence);
    let entry = found.ok_or_else(|| StoreError::Unknown {
        what: format!("entry {sequence} of the audit log"),
        known: Vec::new(),
    })?;
    let details = opened(services, &entry).await?;
    Ok((entry, details))
}

/// Recomputes every hash from the first entry to the head, and checks that the details are what
/// was hashed, and that whoever wrote an entry may speak for the principal that it names.
///
/// # Errors
/// [`OperationError`] when the log cannot be read; what it says is in the verdict.
pub async fn verify_audit(
    services: &Services,
    principal: &Principal,
) -> Result<AuditVerdict, OperationError> {
    authorise(principal, Action::VerifyAudit)?;
    let db = services.store.db();
    let mut verdict = AuditVerdict {
        entries: 0,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let mut writers = Writers::default();
    let (mut last, mut read) = ((0, vec![0; 32]), i64::MIN);
    // Read before the entries: what is appended meanwhile lies beyond it.
    let head = audit::head(db).await?;
    loop {
        let page = audit::page(db, read, PAGE).await?;
        let full = page.len() as u64 == PAGE;
        for (entry, details) in page {
            verdict.entries += 1;
            verdict.problems.extend(check_link(&entry, &last));
            verdict.problems.extend(writers.note(&entry));
            verdict.notes.extend(lost_entries(&entry));
            if audit::is_withheld(&entry, details.as_deref()) {
                let sequence = entry.sequence;
                verdict.notes.push(format!(
                    "the details of entry {sequence} were withheld, as no AUDIT key could be opened in time"
                ));
            } else {
                let problem = check_details(services, &entry, details.as_deref()).await?;
                verdict.problems.extend(problem);
            }
            read = entry.sequence;
            last = (entry.sequence, entry.hash);
        }
        if !full {
            break;
        }
    }
    writers.judge(db, &mut verdict).await?;
    if let Some(problem) = check_head(db, head, &last).await? {
        verdict.problems.push(problem);
    }
    Ok(verdict)
}

/// What a store that was rolled back or restored has lost of the record.
fn lost_entries(entry: &AuditEntry) -> Option<String> {
    let is = |action: audit::Action| entry.action == action.name();
    if !is(audit::Action::StoreRolledBack) && !is(audit::Action::StoreRestored) {
        return None;
    }
    let lost = read_subject(&entry.subject)?;
    Some(format!(
        "entry {}: the store was rolled back or lost, and what the record said after that up to entry {} of then is lost; {} reconciled it with checkpoint {} at {}",
        entry.sequence,
        lost.entry,
        entry.principal(),
        lost.counter,
        entry.time.format("%Y-%m-%d %H:%M:%S UTC")
    ))
}

/// Whether the head names the last entry. If the entries go beyond the head, it is read again, as entries appended
/// meanwhile moved it.
async fn check_head(
    db: &impl ConnectionTrait,
    head: Option<(i64, Vec<u8>)>,
    last: &(i64, Vec<u8>),
) -> Result<Option<String>, OperationError> {
    let is_whole = match &head {
        Some(head) if head.0 >= last.0 => head == last,
        _ => match audit::head(db).await? {
            Some(now) if now.0 == last.0 => now == *last,
            Some(now) => now.0 > last.0,
            None => last.0 == 0,
        },
    };
    let said = head.map_or_else(|| "nothing".to_owned(), |head| format!("entry {}", head.0));
    Ok((!is_whole).then(|| {
        format!(
            "the head says {said} is the last; the log ends at {}",
            last.0
        )
    }))
}

/// Whether the entries after this one continue it, up to the last.
pub(crate) async fn is_linked(
    db: &impl ConnectionTrait,
    sequence: i64,
    hash: &[u8],
) -> Result<bool, StoreError> {
    let mut last = (sequence, hash.to_vec());
    loop {
        let page = audit::page(db, last.0, PAGE).await?;
        let full = page.len() as u64 == PAGE;
        for (entry, _) in page {
            if !check_link(&entry, &last).is_empty() {
                return Ok(false);
            }
            last = (entry.sequence, entry.hash);
        }
        if !full {
            return Ok(true);
        }
    }
}

/// A checkpoint up to which a store was reconciled or restored, as the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostAndFound {
    /// The checkpoint's number.
    pub(crate) counter: u64,
    /// The entry at which it was made: what came after our own entries, up to this one, is lost.
    pub(crate) entry: u64,
}

/// Whether the record says that what checkpoints up to this number know was lost and is reconciled.
pub(crate) async fn lost_and_found(
    db: &impl ConnectionTrait,
    counter: u64,
) -> Result<Option<LostAndFound>, StoreError> {
    let actions = [audit::Action::StoreRolledBack, audit::Action::StoreRestored];
    let entries = audit::of_actions(db, &actions).await?;
    let found = entries
        .iter()
        .filter_map(|entry| read_subject(&entry.subject));
    let mut found = found.filter(|found| found.counter >= counter);
    Ok(found.next())
}

/// `checkpoint/NUMBER/ENTRY/HASH`.
fn read_subject(subject: &str) -> Option<LostAndFound> {
    let mut parts = subject.strip_prefix("checkpoint/")?.split('/');
    let (counter, entry) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(LostAndFound { counter, entry })
}

fn check_link(entry: &AuditEntry, last: &(i64, Vec<u8>)) -> Vec<String> {
    let sequence = entry.sequence;
    let mut problems = Vec::new();
    if sequence != last.0 + 1 {
        problems.push(format!(
            "entry {} is followed by {sequence}: entries are missing",
            last.0
        ));
    }
    if entry.previous_hash != last.1 {
        problems.push(format!(
            "entry {sequence} does not continue the one before it"
        ));
    }
    if audit::entry_hash(entry) != entry.hash {
        problems.push(format!("entry {sequence} was changed"));
    }
    problems
}

/// What an entry's details say; none where they were withheld, changed, or cannot be opened now.
///
/// # Errors
/// [`OperationError::Store`].
pub(crate) async fn opened(
    services: &Services,
    entry: &AuditEntry,
) -> Result<Option<Value>, OperationError> {
    let page = audit::page(services.store.db(), entry.sequence - 1, 1).await?;
    let details = page.into_iter().next().and_then(|(_, details)| details);
    Ok(match read(services, entry, details.as_deref()).await {
        Ok(Details::Whole(mut salted)) => salted.get_mut("details").map(Value::take),
        _ => None,
    })
}

async fn check_details(
    services: &Services,
    entry: &AuditEntry,
    details: Option<&[u8]>,
) -> Result<Option<String>, OperationError> {
    let sequence = entry.sequence;
    Ok(match read(services, entry, details).await? {
        Details::Whole(_) => None,
        Details::Lost => Some(format!("entry {sequence} has lost its details")),
        Details::Wrong(why) => Some(format!("the details of entry {sequence} {why}")),
    })
}

/// The details of an entry, as they stand.
enum Details {
    /// What was hashed, and what it says.
    Whole(Value),
    /// Not there.
    Lost,
    /// What is wrong with them.
    Wrong(String),
}

async fn read(
    services: &Services,
    entry: &AuditEntry,
    details: Option<&[u8]>,
) -> Result<Details, OperationError> {
    let Some(details) = details else {
        return Ok(Details::Lost);
    };
    let Ok(ciphertext) = Ciphertext::parse(details) else {
        return Ok(Details::Wrong("are not ciphertext".to_owned()));
    };
    let keyring = Desired::audit_keyring().name;
    let key = services
        .client
        .decryption_key(&keyring, ciphertext.key_id())
        .await;
    let key = match key {
        Ok(key) => key,
        Err(error) if error.is_retryable() => return Err(error.into()),
        Err(error) => return Ok(Details::Wrong(format!("cannot be read: {error}"))),
    };
    let bound =
        rekey_envelope::associated_data(DETAILS_COLUMN_ID, &[BindValue::Integer(entry.sequence)]);
    let opened = key.decrypt(&ciphertext, &bound).ok();
    let whole = opened.filter(|opened| Sha256::digest(&**opened)[..] == entry.details_hash);
    Ok(match whole {
        Some(salted) => Details::Whole(serde_json::from_slice(&salted).unwrap_or_default()),
        None => Details::Wrong("were changed".to_owned()),
    })
}
