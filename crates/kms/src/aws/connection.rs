//! How requests reach AWS KMS: region, credentials, and limits on time and attempts.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_kms::{Client, config::Builder};

use super::AwsSettings;
use crate::KmsError;

/// From the call to its end, all attempts included; by default the SDK has no such limit.
const OPERATION: Duration = Duration::from_secs(10);
/// One attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A new connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Attempts at one operation; beyond them our workers retry, visibly.
const ATTEMPTS: u32 = 3;
/// Retries fit into the operation: the SDK's own second and doubling would not.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// Region, endpoint and credentials, as `settings`, environment and profile say.
pub(super) async fn load(settings: &AwsSettings) -> Result<SdkConfig, KmsError> {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    let region = settings.region.as_deref();
    if let Some(region) = region.or_else(|| settings.master_key.region()) {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(endpoint_url) = &settings.endpoint_url {
        if endpoint_url.starts_with("http:") {
            tracing::warn!("the KMS is asked over http: data keys travel in clear");
        }
        loader = loader.endpoint_url(endpoint_url);
    }
    let sdk = loader.load().await;
    if sdk.region().is_none() {
        return Err(KmsError::Configuration {
            master_key: settings.master_key.to_string(),
            problem: "no region is said; say region in [kms] or AWS_REGION, or name the master key by its ARN",
        });
    }
    Ok(sdk)
}

/// A client with our limits.
pub(super) fn client(sdk: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION)
        .operation_attempt_timeout(ATTEMPT)
        .connect_timeout(CONNECT)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF);
    let config = Builder::from(sdk)
        .behavior_version(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(retries);
    Client::from_conf(config.build())
}
