//! Requests with limits: on time, on bytes of an answer, and to no place but the one that was named.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use object_store::{
    ClientConfigKey, ClientOptions, RetryConfig,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use reqwest::redirect::Policy;

use super::answer::{Answered, TooManyBytes};
use crate::MAX_LEN;

/// A new connection.
const CONNECT: Duration = Duration::from_secs(3);
/// From a request to the end of its answer.
const ATTEMPT: Duration = Duration::from_secs(6);
/// Azure's name for an error's code.
const AZURE_CODE: &str = "x-ms-error-code";

/// Makes clients of HTTP.
#[derive(Debug)]
pub(super) struct Limited;

impl HttpConnector for Limited {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // As programs do when they start; a test has not.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Asked for by credentials of a machine, too, whose addresses are http.
        let may = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = reqwest::Client::builder()
            .https_only(may.as_deref() != Some("true"))
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .user_agent("rekey")
            .build();
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "HTTP",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(Client(client)))
    }
}

/// We ask again ourselves: of the client's own attempts some are logged with words of the service.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// Http only if that is said.
pub(super) fn options(allow_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(allow_http)
}

#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = HttpService::call(&self.0, request).await?.into_parts();
        let body = read(body).await?;
        if parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        let code = parts
            .headers
            .get(AZURE_CODE)
            .and_then(|code| code.to_str().ok());
        let answered = Answered::new(parts.status, code, &body);
        Err(HttpError::new(HttpErrorKind::Unknown, answered))
    }
}

/// Reads an answer, but not more than an object may have.
async fn read(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let (mut stream, mut bytes) = (body.bytes_stream(), Vec::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > MAX_LEN {
            return Err(HttpError::new(HttpErrorKind::Decode, TooManyBytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
