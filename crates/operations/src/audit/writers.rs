//! Who wrote the entries, by the role that the database stamped each with, and whether that role may
//! speak for the principal that the entry names.
//!
//! A role speaks for a worker if it has what only that worker is granted, and for people, systems and
//! schedules if it is the rotator's, who takes up requests, or the operator's. So a worker that is taken
//! over can write what it likes in its own name, and in no other. A role that may do everything, such as
//! the store's owner, may speak for everyone.

use std::collections::BTreeMap;

use rekey_domain::{Principal, PrincipalKind, Role, Worker};
use rekey_store::{ConnectionTrait, StoreError, audit::AuditEntry, rights};

use super::verdict::AuditVerdict;
use crate::access::rights::only_of;

/// The entries of one kind of principal that one role wrote.
struct Wrote {
    first: i64,
    entries: u64,
    principal: Principal,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Writers {
    wrote: BTreeMap<(Vec<Role>, String), Wrote>,
}

impl Writers {
    /// Notes an entry. One without a stamp after stamped ones is a problem, as no entry is written so.
    pub(super) fn note(&mut self, entry: &AuditEntry) -> Option<String> {
        let (sequence, principal) = (entry.sequence, entry.principal().clone());
        let Some(role) = &entry.written_by else {
            let before = !self.wrote.is_empty();
            return before.then(|| {
                format!("entry {sequence} does not say who wrote it, as those before it do")
            });
        };
        let of_this = (speakers(&principal), role.clone());
        let wrote = self.wrote.entry(of_this).or_insert(Wrote {
            first: sequence,
            entries: 0,
            principal,
        });
        wrote.entries += 1;
        None
    }

    /// Asks of each role whether it may speak so.
    pub(super) async fn judge(
        self,
        db: &impl ConnectionTrait,
        verdict: &mut AuditVerdict,
    ) -> Result<(), StoreError> {
        for ((speakers, role), wrote) in self.wrote {
            let Wrote {
                first,
                entries,
                principal,
            } = wrote;
            match may_speak(db, &role, &speakers).await? {
                Some(true) => {}
                Some(false) => verdict.problems.push(format!(
                    "entry {first}, and {} more, name {principal} or the like and were written by the role {role}, which may not speak for it",
                    entries - 1
                )),
                None => verdict.notes.push(format!(
                    "entry {first}, and {} more, were written by the role {role}, which is not there any more: whether it might speak for {principal} cannot be told",
                    entries - 1
                )),
            }
        }
        Ok(())
    }
}

/// Whose roles may write in the name of a principal.
fn speakers(principal: &Principal) -> Vec<Role> {
    if principal.kind != PrincipalKind::Worker {
        return vec![Worker::Rotator.into(), Role::Operator];
    }
    let mut all = Worker::ALL.into_iter();
    let worker = all.find(|worker| worker.name() == principal.name);
    worker.map(Role::from).into_iter().collect()
}

/// None where there is no such role.
async fn may_speak(
    db: &impl ConnectionTrait,
    role: &str,
    speakers: &[Role],
) -> Result<Option<bool>, StoreError> {
    let mut may = false;
    for right in speakers.iter().filter_map(|who| only_of(*who)) {
        match rights::has(db, role, &right).await? {
            Some(has) => may |= has,
            None => return Ok(None),
        }
    }
    Ok(Some(may))
}
