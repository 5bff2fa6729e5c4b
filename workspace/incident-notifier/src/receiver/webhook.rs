//! Webhooks as Standard Webhooks has them: one id for all attempts, a fresh time and signature for each.

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use rekey_envelope::{decode_base64, encode_base64};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::json;
use sha2::Sha256;

use super::{
    http::{self, Target},
    problem::Problem,
    secrets,
};
use crate::letter::{Failure, Letter};

const EXPECTED: &str = "expected whsec_ and 24 to 64 bytes in base64, on one line, or on two while it is being replaced";

/// A webhook.
pub struct Webhook {
    target: Target,
    secrets: Vec<SecretSlice<u8>>,
}

impl Webhook {
    pub(super) fn open(
        url_file: &Path,
        secret_file: &Path,
        allow_private: bool,
    ) -> Result<Self, Problem> {
        let target = Target::in_file("url_file", url_file, allow_private)?;
        let text = secrets::read("secret_file", secret_file)?;
        let secrets = parse(&text).ok_or_else(|| Problem {
            key: "secret_file",
            problem: format!("{secret_file:?} holds no such secret; {EXPECTED}"),
            is_missing: false,
        })?;
        Ok(Self { target, secrets })
    }

    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        let body = body(letter);
        let (id, at) = (letter.id.to_string(), letter.now.timestamp().to_string());
        let signatures = self.secrets.iter();
        let signatures = signatures.map(|secret| sign(secret, &format!("{id}.{at}.{body}")));
        let headers = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", at.clone()),
            (
                "webhook-signature",
                signatures.collect::<Vec<_>>().join(" "),
            ),
        ];
        http::post(&self.target, &headers, body).await
    }
}

fn parse(text: &SecretString) -> Option<Vec<SecretSlice<u8>>> {
    let lines: Vec<_> = text.expose_secret().split_whitespace().collect();
    if lines.len() > 2 {
        return None;
    }
    let secret = |line: &&str| {
        let secret = decode_base64(line.strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&secret.len()).then(|| secret.into())
    };
    lines.iter().map(secret).collect()
}

fn body(letter: &Letter<'_>) -> String {
    let notice = letter.notice;
    let happened = match (notice.about.as_str(), notice.is_end()) {
        ("incident", false) => "incident.opened",
        ("incident", true) => "incident.resolved",
        ("alert", false) => "alert.raised",
        ("alert", true) => "alert.cleared",
        ("digest", false) => "digest.raised",
        ("digest", true) => "digest.cleared",
        _ => "test",
    };
    json!({ "type": happened, "timestamp": letter.now, "data": notice }).to_string()
}

fn sign(secret: &SecretSlice<u8>, content: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret())
        .expect("HMAC takes a key of any length");
    mac.update(content.as_bytes());
    format!("v1,{}", encode_base64(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secrets = parse(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let content = r#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&secrets[0], content), expected);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for text in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
            "whsec_!",
        ] {
            assert!(parse(&text.into()).is_none(), "{text}");
        }
        assert_eq!(parse(&format!("{good}\n{good}").into()).unwrap().len(), 2);
        assert!(parse(&[good; 3].join("\n").into()).is_none());
    }
}
