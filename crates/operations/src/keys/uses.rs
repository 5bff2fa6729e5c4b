//! What applications did with keys, in the audit log: one entry for each principal, key and report.

use std::sync::Arc;

use rekey_client::{Client, Leases, Use};
use rekey_domain::{Principal, Purpose};
use rekey_kms::Kms;
use rekey_store::{
    Store,
    audit::{self, AuditPen, Record},
    keyrings, keys,
};
use serde_json::json;

use crate::{Desired, OperationError};

/// Writes reports of use into the audit log, with a client of its own for the AUDIT key.
pub struct UseLog {
    store: Store,
    client: Client,
    principal: Principal,
}

impl UseLog {
    /// The log of what `principal` does. `leases` must not report into this log itself.
    pub fn new(
        store: Store,
        kms: Arc<dyn Kms>,
        leases: Arc<dyn Leases>,
        principal: Principal,
    ) -> Self {
        Self {
            store,
            client: Client::new(leases, kms),
            principal,
        }
    }

    /// Appends one entry a key. Uses of AUDIT keys are left out: writing them down is one more.
    pub async fn append(&self, uses: &[Use]) -> Result<(), OperationError> {
        let mut named = Vec::new();
        for used in uses {
            let Some(key) = keys::find(self.store.db(), used.key).await? else {
                continue;
            };
            let keyring = keyrings::by_id(self.store.db(), key.keyring_id).await?;
            if keyring.purpose != Purpose::Audit {
                named.push((key.name(&keyring).to_string(), used));
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        let key = self
            .client
            .encryption_key(&Desired::audit_keyring().name, named.len() as u64)
            .await?;
        let pen = AuditPen::new(key, self.principal.clone());
        let unit = self.store.begin().await?;
        for (
            subject,
            Use {
                encrypted,
                decrypted,
                ..
            },
        ) in named
        {
            let details = json!({ "encrypted": encrypted, "decrypted": decrypted });
            pen.append(
                &unit,
                Record {
                    action: audit::Action::KeyUsed,
                    subject: &subject,
                    outcome: "done",
                    details,
                },
            )
            .await?;
        }
        Ok(unit.commit().await?)
    }
}
