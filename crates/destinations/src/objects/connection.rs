//! Requests with limits: on time, on bytes of an answer, and to no place but the one that was named.

use std::{error::Error, time::Duration};

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

use super::answer::{Answered, NoCredentials, TooManyBytes};
use crate::MAX_LEN;

/// A new connection.
const CONNECT: Duration = Duration::from_secs(3);
/// From a request to the end of its answer.
const ATTEMPT: Duration = Duration::from_secs(6);
/// Azure's name for an error's code.
const AZURE_CODE: &str = "x-ms-error-code";

/// Makes clients of HTTP.
#[derive(Debug, Clone)]
pub(super) struct Limited {
    /// Host and port of the service. Whoever else is asked has credentials for us.
    service: String,
}

impl Limited {
    /// For a service at this endpoint, such as `https://host:port/path`.
    pub(super) fn to(endpoint: &str) -> Self {
        let (_, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let service = rest.split('/').next().unwrap_or(rest).to_owned();
        Self { service }
    }
}

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
        let service = self.service.clone();
        Ok(HttpClient::new(Client { client, service }))
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
struct Client {
    client: reqwest::Client,
    service: String,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = request.uri().authority();
        let is_service =
            asked.is_some_and(|asked| asked.as_str().eq_ignore_ascii_case(&self.service));
        let answer = self.ask(request).await;
        answer.map_err(|error| {
            if is_service {
                error
            } else {
                no_credentials(&error)
            }
        })
    }
}

fn no_credentials(error: &HttpError) -> HttpError {
    let answered: Option<&Answered> = error.source().and_then(|source| source.downcast_ref());
    let refused = answered.is_some_and(|answered| (400..500).contains(&answered.status));
    HttpError::new(error.kind(), NoCredentials { refused })
}

impl Client {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = HttpService::call(&self.client, request).await?;
        let (parts, body) = answer.into_parts();
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
