//! Asking for a canary: whether what is asked for makes sense, before anything is sent.

use rekey_domain::{Canary, ColumnName, KeyringName, RequestDecision, decide_request};
use rekey_messages::RotationRequested;
use rekey_store::{columns, columns::Protected, keyrings, keyrings::Keyring, rotations};

use uuid::Uuid;

use crate::{OperationError, Services};

/// Refuses a request for a rotation of a keyring that is not there, or for a canary that cannot be.
pub(crate) async fn check(
    services: &Services,
    request: &RotationRequested,
) -> Result<(), OperationError> {
    let keyring = keyrings::by_name(services.store.db(), &request.keyring).await?;
    let Canary { only, .. } = &request.canary;
    if let Some(only) = only {
        check_column(services, &keyring, only).await?;
    }
    if request.canary.is_none() {
        return Ok(());
    }
    refuse_to_join(services, &keyring).await
}

/// Refuses a column that is not the keyring's.
pub(crate) async fn check_column(
    services: &Services,
    keyring: &Keyring,
    only: &ColumnName,
) -> Result<(), OperationError> {
    let columns = columns::all(services.store.db()).await?;
    let found = columns.iter().find(|column| column.spec.name == *only);
    if found.is_some_and(|column| column.keyring_id == keyring.id) {
        return Ok(());
    }
    let of_keyring = columns.iter().filter(|one| one.keyring_id == keyring.id);
    let known: Vec<_> = of_keyring.map(|one| one.spec.name.to_string()).collect();
    let found = found.map_or_else(
        || "is not protected".to_owned(),
        |column| format!("is under keyring {}", column.spec.keyring),
    );
    Err(OperationError::Configuration {
        place: format!("column {only}"),
        problem: format!(
            "{found}; keyring {} protects {}",
            keyring.name,
            if known.is_empty() {
                "nothing".to_owned()
            } else {
                known.join(", ")
            }
        ),
    })
}

/// The other columns of the keyring that stand in the same rows: one statement writes all values of a
/// row, so they move along.
///
/// # Errors
/// [`OperationError::Store`].
pub async fn columns_along(
    services: &Services,
    only: &ColumnName,
) -> Result<Vec<ColumnName>, OperationError> {
    let columns = columns::all(services.store.db()).await?;
    let Some(found) = columns.iter().find(|column| column.spec.name == *only) else {
        return Ok(Vec::new());
    };
    let along = |one: &&Protected| {
        one.id != found.id && one.table.id == found.table.id && one.keyring_id == found.keyring_id
    };
    let along = columns.iter().filter(along);
    Ok(along.map(|column| column.spec.name.clone()).collect())
}

/// Refuses a canary while a rotation is under way, as that already moves all rows.
async fn refuse_to_join(services: &Services, keyring: &Keyring) -> Result<(), OperationError> {
    let latest = rotations::latest(services.store.db(), keyring.id).await?;
    let Some(latest) = latest else {
        return Ok(());
    };
    let decision = decide_request(Some((latest.state, latest.replaces_compromised())));
    if decision != RequestDecision::Join {
        return Ok(());
    }
    Err(OperationError::Refused(no_canary(latest.id, &keyring.name)))
}

/// Why a canary does not join a rotation that is under way.
pub fn no_canary(id: Uuid, keyring: &KeyringName) -> String {
    format!(
        "rotation {id} of {keyring} is under way and would not become a canary; to hold it: rekey rotations pause {id}"
    )
}
