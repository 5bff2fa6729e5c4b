//! Azure: how a container is reached, and whose credentials are taken.

use object_store::azure::{AzureConfigKey as Key, MicrosoftAzure, MicrosoftAzureBuilder};

use super::connection::{Limited, no_retries, options};
use crate::{DestinationError, Environment, url};

/// As Azure's own tools read them: an account's key; a signature (SAS); a service principal, or a workload's identity.
/// Without any of these it is the identity of the machine.
const CREDENTIALS: [(&str, Key); 9] = [
    ("AZURE_STORAGE_KEY", Key::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", Key::SasKey),
    ("AZURE_CLIENT_ID", Key::ClientId),
    ("AZURE_CLIENT_SECRET", Key::ClientSecret),
    ("AZURE_TENANT_ID", Key::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", Key::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", Key::AuthorityHost),
    ("IDENTITY_ENDPOINT", Key::MsiEndpoint),
    ("AZURE_STORAGE_ACCOUNT", Key::AccountName),
];

/// A client. Nothing else of the environment is read.
pub(super) fn client(
    place: &str,
    at: &url::Objects,
    environment: &Environment<'_>,
) -> Result<MicrosoftAzure, DestinationError> {
    let wrong = |problem| DestinationError::Configuration {
        place: place.to_owned(),
        problem,
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(&at.container)
        .with_retry(no_retries())
        .with_client_options(options(at.allow_http))
        .with_http_connector(Limited);
    if let Some(endpoint) = &at.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let mut account = at.home.clone();
    for (variable, key) in CREDENTIALS {
        let Some(value) = environment(variable) else {
            continue;
        };
        match key {
            Key::AccountName => account = account.or(Some(value)),
            key => builder = builder.with_config(key, value),
        }
    }
    let account = account.ok_or(wrong(
        "no account is said; say account in its URL, or AZURE_STORAGE_ACCOUNT",
    ))?;
    builder.with_account(account).build().map_err(|_| {
        wrong("its credentials cannot be used; expected AZURE_STORAGE_KEY in base64, AZURE_STORAGE_SAS_TOKEN, or an identity")
    })
}
