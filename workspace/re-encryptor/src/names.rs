//! Names of rows in quarantine: sealed as the audit log's details are, since a primary key may name a patient.

use rekey_client::ClientError;
use rekey_domain::BindValue;
use rekey_envelope::associated_data;
use rekey_operations::{Desired, OperationError, Services};
use rekey_store::{
    columns,
    quarantine::{NewQuarantine, ROW_NAME_COLUMN_ID},
};

use crate::row::Unmoved;

/// What is stored of each value. A name is sealed only where the store's own column is protected,
/// which `rekey apply` does: else no rotation of the AUDIT key would take it along.
pub async fn seal(
    services: &Services,
    left: Vec<Unmoved>,
) -> Result<Vec<NewQuarantine>, OperationError> {
    let named = left.iter().filter(|value| value.row_name.is_some()).count() as u64;
    if named == 0 || !is_protected(services).await? {
        return Ok(left.into_iter().map(|value| stored(value, None)).collect());
    }
    let audit = Desired::audit_keyring().name;
    let key = services.client.encryption_key(&audit, named).await?;
    let sealed = left.into_iter().map(|value| {
        let bound = associated_data(ROW_NAME_COLUMN_ID, &[BindValue::from(value.id.as_str())]);
        let name = value.row_name.as_ref();
        let name = name.map(|name| key.encrypt(name.as_bytes(), &bound));
        let name = name.transpose().map_err(ClientError::from)?;
        Ok(stored(value, name))
    });
    sealed.collect()
}

async fn is_protected(services: &Services) -> Result<bool, OperationError> {
    let all = columns::all(services.store.db()).await?;
    let mut ids = all.iter().map(|column| &column.spec.column_id);
    Ok(ids.any(|id| id == ROW_NAME_COLUMN_ID))
}

fn stored(value: Unmoved, row_name: Option<Vec<u8>>) -> NewQuarantine {
    NewQuarantine {
        column: value.column,
        row_key: value.id.as_str().to_owned(),
        row_name,
        found: value.found,
        reason: value.reason,
        detail: value.detail,
        whole: value.whole,
    }
}
