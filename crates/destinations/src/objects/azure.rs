//! Azure: how a container is reached, and whose credentials are taken.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{
    azure::{AzureAuthorizer, AzureConfigKey as Key, MicrosoftAzure, MicrosoftAzureBuilder},
    client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody},
    list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore},
    path::Path,
};
use reqwest::Method;

use super::{
    client::{Clients, Own},
    connection::{Limited, no_retries, options},
};
use crate::{DestinationError, Environment, url};

/// As Azure's own tools read them: an account's key; a signature (SAS); a service principal, or a workload's identity.
/// Without any of these it is the identity of the machine.
const CREDENTIALS: [(&str, Key); 8] = [
    ("AZURE_STORAGE_KEY", Key::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", Key::SasKey),
    ("AZURE_CLIENT_ID", Key::ClientId),
    ("AZURE_CLIENT_SECRET", Key::ClientSecret),
    ("AZURE_TENANT_ID", Key::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", Key::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", Key::AuthorityHost),
    ("IDENTITY_ENDPOINT", Key::MsiEndpoint),
];

/// Sets requests up. Nothing else of the environment is read.
pub(super) fn clients(
    place: &str,
    at: &url::Objects,
    environment: Environment<'_>,
) -> Result<Clients, DestinationError> {
    let wrong = |problem| DestinationError::Configuration {
        place: place.to_owned(),
        problem,
    };
    let account = at
        .home
        .clone()
        .or_else(|| environment.say("AZURE_STORAGE_ACCOUNT"));
    let account = account.ok_or(wrong(
        "no account is said; say account in its URL, or AZURE_STORAGE_ACCOUNT",
    ))?;
    let endpoint = at.endpoint.clone();
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let url = format!("{endpoint}/{}", at.container);
    let limited = Limited::to(&endpoint);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&account)
        .with_endpoint(endpoint)
        .with_container_name(&at.container)
        .with_retry(no_retries())
        .with_client_options(options(at.allow_http))
        .with_http_connector(limited.clone());
    for (variable, key) in CREDENTIALS {
        if let Some(value) = environment.say(variable) {
            builder = builder.with_config(key, value);
        }
    }
    let cannot = "its credentials cannot be used; expected AZURE_STORAGE_KEY in base64, AZURE_STORAGE_SAS_TOKEN, or an identity";
    let client = builder.build().map_err(|_| wrong(cannot))?;
    let http = limited
        .connect(&options(at.allow_http))
        .map_err(|_| wrong(cannot))?;
    let own = Container {
        client: client.clone(),
        http,
        url,
        account,
    };
    Ok(Clients {
        store: Arc::new(client),
        own: Arc::new(own),
    })
}

#[derive(Debug)]
struct Container {
    client: MicrosoftAzure,
    http: HttpClient,
    /// Of the container.
    url: String,
    account: String,
}

#[async_trait]
impl Own for Container {
    async fn names(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        self.client.list_paginated(Some(prefix), options).await
    }

    /// The library deletes by a batch only, which may be refused as such.
    async fn delete(&self, path: &Path) -> object_store::Result<()> {
        let failed = |source| object_store::Error::Generic {
            store: "Azure",
            source,
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::DELETE;
        // Nothing in our names needs to be encoded.
        let url = format!("{}/{path}", self.url).parse();
        *request.uri_mut() = url.map_err(|error| failed(Box::new(error)))?;
        let credential = self.client.credentials().get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        let done = self.http.execute(request).await;
        done.map(drop).map_err(|error| failed(Box::new(error)))
    }
}
