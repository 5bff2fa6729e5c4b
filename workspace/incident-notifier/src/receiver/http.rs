//! Requests that go to no place they are not meant for: the name is resolved once, every address is looked at, the
//! connection goes to one of those, no redirect is followed, no proxy undoes it, and nothing of the answer's body is read.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use chrono::DateTime;
use rekey_domain::{Reach, reach};
use reqwest::{Client, Method, Response, StatusCode, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{problem::Problem, secrets};
use crate::letter::Failure;

/// From the first look at the name to the answer.
const WITHIN: Duration = Duration::from_secs(15);
const EXPECTED: &str = "expected a URL such as https://hooks.example/rekey";

/// Where a request goes.
pub struct Target {
    url: Url,
    allow_private: bool,
}

impl Target {
    /// Reads a URL. Nothing of it is shown: it may be a secret.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, allow_private: bool) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| format!("is no URL; {EXPECTED}"))?;
        let target = Self { url, allow_private };
        target.check()?;
        Ok(target)
    }

    /// The URL that stands in a file.
    ///
    /// # Errors
    /// [`Problem`] names the key.
    pub fn in_file(key: &'static str, file: &Path, allow_private: bool) -> Result<Self, Problem> {
        let text: SecretString = secrets::read(key, file)?;
        let wrong = |problem| Problem {
            key,
            problem: format!("the URL in {file:?} {problem}"),
            is_missing: false,
        };
        Self::parse(text.expose_secret(), allow_private).map_err(wrong)
    }

    /// What can be known before the name is resolved.
    fn check(&self) -> Result<(), String> {
        let login = !self.url.username().is_empty() || self.url.password().is_some();
        if login {
            return Err(format!("has a user or a password; {EXPECTED}"));
        }
        if self.url.scheme() != "https" && !(self.url.scheme() == "http" && self.allow_private) {
            return Err(format!(
                "is not https; {EXPECTED}. http is taken on this machine alone, with allow_private = true"
            ));
        }
        match self.url.host() {
            None => Err(format!("names no host; {EXPECTED}")),
            Some(Host::Domain(_)) => Ok(()),
            Some(Host::Ipv4(address)) => self.permit(address.into()),
            Some(Host::Ipv6(address)) => self.permit(address.into()),
        }
    }

    /// Whether an address may be spoken to.
    fn permit(&self, address: IpAddr) -> Result<(), String> {
        match reach(address) {
            Reach::Never => Err(format!("leads to {address}, to which nothing is ever sent")),
            Reach::Private if !self.allow_private => Err(format!(
                "leads to {address}, which is private; allow_private = true where that is meant"
            )),
            _ if self.url.scheme() == "http" && !address.to_canonical().is_loopback() => {
                Err("is http and leads to another machine; expected https".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The addresses of the host, each of which may be spoken to.
    async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let host = match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(format!("names no host; {EXPECTED}")),
        };
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let found: Vec<_> = found.map(Iterator::collect).unwrap_or_default();
        if found.is_empty() {
            return Err("names a host that does not resolve".to_owned());
        }
        for address in &found {
            self.permit(address.ip())?;
        }
        Ok(found)
    }
}

/// Has a receiver take a body.
pub async fn post(
    target: &Target,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<(), Failure> {
    request(target, Method::POST, headers, Some(body)).await
}

/// Asks for a URL, whatever it answers with.
pub async fn get(target: &Target) -> Result<(), Failure> {
    request(target, Method::GET, &[], None).await
}

async fn request(
    target: &Target,
    method: Method,
    headers: &[(&'static str, String)],
    body: Option<String>,
) -> Result<(), Failure> {
    let answered = tokio::time::timeout(WITHIN, ask(target, method, headers, body)).await;
    let answer = answered.unwrap_or_else(|_| {
        let within = WITHIN.as_secs();
        Err(Failure::later(format!("no answer within {within} s")))
    })?;
    judge(&answer)
}

async fn ask(
    target: &Target,
    method: Method,
    headers: &[(&'static str, String)],
    body: Option<String>,
) -> Result<Response, Failure> {
    let addresses = target.resolve().await;
    let addresses = addresses.map_err(|why| Failure::later(format!("the URL {why}")))?;
    let client = client(target, &addresses).map_err(|error| Failure::later(said(&error)))?;
    let mut request = client.request(method, target.url.clone()).header(
        header::USER_AGENT,
        concat!("rekey/", env!("CARGO_PKG_VERSION")),
    );
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(body) = body {
        request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
    }
    let answered = request.send().await;
    answered.map_err(|error| Failure::later(said(&error)))
}

/// A client of its own for each request: what is connected to is what was looked at.
fn client(target: &Target, addresses: &[SocketAddr]) -> reqwest::Result<Client> {
    let host = target.url.host_str().unwrap_or_default();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs(host, addresses)
        .referer(false)
        .build()
}

/// What went wrong, without the URL.
fn said(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "no connection, or its certificate is not trusted"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke, or what came is no HTTP"
    };
    what.to_owned()
}

fn judge(answer: &Response) -> Result<(), Failure> {
    let status = answer.status();
    let why = format!("the receiver answered {}", status.as_u16());
    let asked = asked(answer);
    if status.is_success() {
        return Ok(());
    }
    if status == StatusCode::GONE {
        return Err(Failure {
            gone: true,
            ..Failure::for_good(why)
        });
    }
    if status.is_redirection() {
        let why = format!("{why}, a redirect, which is not followed");
        return Err(Failure::for_good(why));
    }
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !passes.contains(&status) {
        return Err(Failure::for_good(why));
    }
    Err(Failure {
        asked,
        ..Failure::later(why)
    })
}

/// `Retry-After`: seconds, or a date, which counts from the date of the answer itself (RFC 9110 §10.2.3).
fn asked(answer: &Response) -> Option<Duration> {
    let text = |name| answer.headers().get(name)?.to_str().ok();
    let until = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = until.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |said: &str| DateTime::parse_from_rfc2822(said).ok();
    let (until, from) = (date(until)?, date(text(header::DATE)?)?);
    (until - from).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_refused_for_what_can_be_known_of_it() {
        let refused = [
            ("", false, "is no URL"),
            ("hooks.example", false, "is no URL"),
            ("ftp://hooks.example/", false, "is not https"),
            ("http://hooks.example/", false, "is not https"),
            ("http://10.0.0.1/", true, "another machine"),
            ("https://ana@hooks.example/", false, "a user or a password"),
            (
                "https://ana:x@hooks.example/",
                false,
                "a user or a password",
            ),
            ("https://127.0.0.1/", false, "is private"),
            ("https://0x7f.1/", false, "is private"),
            ("https://2130706433/", false, "is private"),
            ("https://[::ffff:127.0.0.1]/", false, "is private"),
            ("https://169.254.169.254/", true, "nothing is ever sent"),
            ("https://[fe80::1]/", true, "nothing is ever sent"),
        ];
        for (url, private, expected) in refused {
            let why = Target::parse(url, private).err().unwrap_or_default();
            assert!(why.contains(expected), "{url}: {why}");
        }
        let taken = [
            ("https://hooks.example/a?b=c", false),
            ("https://127.0.0.1:8443/", true),
            ("http://localhost:8080/", true),
            ("https://93.184.215.14/", false),
        ];
        for (url, private) in taken {
            assert!(Target::parse(url, private).is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_when_it_is_resolved() {
        let target = Target::parse("https://localhost/", false).unwrap();
        let why = target.resolve().await.unwrap_err();
        assert!(why.contains("private"), "{why}");
        let target = Target::parse("https://no-such-host.invalid/", false).unwrap();
        let why = target.resolve().await.unwrap_err();
        assert!(why.contains("does not resolve"), "{why}");
    }
}
