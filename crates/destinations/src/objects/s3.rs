//! S3: how a bucket is reached, and whose credentials are taken.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::{
    ObjectStoreExt,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey as Key, S3ConditionalPut},
    list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore},
    path::Path,
};

use super::{
    client::{Clients, Own},
    connection::{Limited, no_retries, options},
};
use crate::{DestinationError, Environment, url};

/// As AWS's own tools read them: a key; a role by a file, as in Kubernetes; a role of a container. Without any of these
/// it is the role of the machine.
const CREDENTIALS: [(&str, Key); 9] = [
    ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", Key::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        Key::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        Key::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        Key::ContainerAuthorizationTokenFile,
    ),
];

/// Sets requests up. Nothing else of the environment is read: a variable could turn "create only" off.
pub(super) fn clients(
    place: &str,
    at: &url::Objects,
    environment: Environment<'_>,
) -> Result<Clients, DestinationError> {
    let wrong = |problem| DestinationError::Configuration {
        place: place.to_owned(),
        problem,
    };
    let region = at.home.clone();
    let region = region
        .or_else(|| environment.say("AWS_REGION"))
        .or_else(|| environment.say("AWS_DEFAULT_REGION"))
        .ok_or(wrong(
            "no region is said; say region in its URL, or AWS_REGION",
        ))?;
    let endpoint = at.endpoint.clone();
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&at.container)
        .with_region(region)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One request for one object, whose answer is about that one.
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_client_options(options(at.allow_http))
        .with_http_connector(Limited::to(&endpoint))
        .with_endpoint(endpoint);
    for (variable, key) in CREDENTIALS {
        if let Some(value) = environment.say(variable) {
            builder = builder.with_config(key, value);
        }
    }
    let client = builder.build().map_err(|_| {
        wrong("its credentials are incomplete; expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role")
    })?;
    let client = Arc::new(client);
    Ok(Clients {
        store: client.clone(),
        own: client,
    })
}

#[async_trait]
impl Own for AmazonS3 {
    async fn names(
        &self,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        self.list_paginated(Some(prefix), options).await
    }

    async fn delete(&self, path: &Path) -> object_store::Result<()> {
        ObjectStoreExt::delete(self, path).await
    }
}
