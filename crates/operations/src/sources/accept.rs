//! Accepting that a source is another database from now on: a person's word, in the audit log.

use rekey_domain::Principal;
use rekey_store::{audit, columns};
use serde::Serialize;
use serde_json::json;

use crate::{Action, OperationError, STORE_SOURCE, Services, access::audited::Audited};

/// A source that is another database from now on.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// The source.
    pub source: String,
    /// What its database was known by.
    pub before: Option<String>,
    /// What it is known by now.
    pub now: String,
}

/// Notes the identity of the database that the source's URL leads to now. The person says with it that this one holds
/// the values of the one before: nothing will move what is left there.
///
/// # Errors
/// [`OperationError::Refused`] where our role may not know what the database is known by.
pub async fn accept_database(
    services: &Services,
    name: &str,
    principal: &Principal,
) -> Result<Accepted, OperationError> {
    let stored = columns::source_by_name(services.store.db(), name).await?;
    let refused = |why: &str| OperationError::Refused(format!("source {name}: {why}"));
    if name == STORE_SOURCE {
        return Err(refused("the store is where it was opened"));
    }
    let url = services.url_of(&stored).map_err(|why| refused(&why))?;
    let opened = rekey_sources::open(url.expose_url()).await?;
    let now = opened.database_id().await?.ok_or_else(|| {
        refused(match stored.url.starts_with("sqlite") {
            true => "nothing tells its database from another: say the path of a file",
            false => "our role may not know what its database is known by: it takes EXECUTE on pg_catalog.pg_control_system",
        })
    })?;
    let asked = Audited::begin(services, principal, Action::AcceptDatabase).await?;
    columns::accept_database(&asked.unit, &stored, &now).await?;
    let accepted = Accepted {
        source: name.to_owned(),
        before: stored.database_id,
        now,
    };
    let details = json!({ "before": accepted.before, "now": accepted.now });
    asked
        .commit(audit::Action::SourceAccepted, name, details)
        .await?;
    Ok(accepted)
}
