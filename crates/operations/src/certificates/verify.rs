//! Verifying a certificate against public keys: no store, no KMS, nothing but bytes.

use rekey_domain::{KeyId, KeyState};
use rekey_envelope::{Jwk, JwkSet, JwkSetError, Jws, JwsError};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::content::{Certificate, SCHEMA};

/// The type in the signature's header: what is signed for something else is no certificate.
pub const TYP: &str = "rekey-certificate+json";
/// Many times what the largest certificate has; more is not looked at.
pub const LIMIT: usize = 4 << 20;

/// Why a certificate is not to be believed. Retrying does not help.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is too large to be one.
    #[error("too large for a certificate: expected at most {LIMIT} bytes, found more")]
    TooLarge,
    /// It does not have the form.
    #[error(
        "no signed certificate: expected what `rekey rotations certificate ID --output json` prints, or the text of its jws; {0}"
    )]
    Form(String),
    /// The public keys do not have the form.
    #[error(transparent)]
    Keys(#[from] JwkSetError),
    /// The signature.
    #[error(transparent)]
    Signature(#[from] JwsError),
    /// Whoever has the key can sign whatever they like, with any date.
    #[error("key {kid} signed it and is COMPROMISED: anyone may have signed")]
    Compromised {
        /// Which.
        kid: KeyId,
    },
    /// The file shows people something else than what is signed.
    #[error(
        "beside what key {kid} signed the file shows another certificate; believe only what is signed"
    )]
    ShowsAnother {
        /// Which key signed.
        kid: KeyId,
    },
}

/// A certificate that is as it was signed.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub certificate: Certificate,
    /// The same, every field of it.
    pub payload: Value,
    /// The key that signed.
    pub key: Jwk,
}

/// Verifies a file: the object that `rekey rotations certificate` prints, or its `jws` alone.
///
/// # Errors
/// [`CertificateError`]; nothing in the file is to be believed then.
pub fn verify_certificate(file: &[u8], keys: &JwkSet) -> Result<Verified, CertificateError> {
    if file.len() > LIMIT {
        return Err(CertificateError::TooLarge);
    }
    let text = std::str::from_utf8(file).map_err(|_| form("it is no text"))?;
    let (jws, shown) = split(text.trim())?;
    let jws = Jws::parse(&jws)?;
    let kid = jws.kid();
    let payload: Value = serde_json::from_slice(jws.verify(TYP, keys)?)
        .map_err(|_| form("what is signed is not JSON"))?;
    let key = keys.find(kid).ok_or(JwsError::UnknownKey { kid })?.clone();
    if key.state == Some(KeyState::Compromised) {
        return Err(CertificateError::Compromised { kid });
    }
    if shown.is_some_and(|shown| shown != payload) {
        return Err(CertificateError::ShowsAnother { kid });
    }
    let certificate = read(&payload, kid)?;
    Ok(Verified {
        certificate,
        payload,
        key,
    })
}

/// The fields of a file, each at most once: if there were two, a reader could see one while we compare the other.
#[derive(Deserialize)]
struct File {
    #[serde(default, deserialize_with = "there")]
    jws: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    certificate: Option<Value>,
}

/// A null counts as present, too.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The signed text, and the certificate that the file shows beside it.
fn split(text: &str) -> Result<(String, Option<Value>), CertificateError> {
    if !text.starts_with('{') {
        return Ok((text.to_owned(), None));
    }
    let file: File = serde_json::from_str(text)
        .map_err(|error| form(&format!("it is cut short or altered: {error}")))?;
    match file.jws {
        Some(Value::String(jws)) => Ok((jws, file.certificate)),
        Some(Value::Null) => Err(form("this one is unsigned")),
        _ => Err(form("it has no jws")),
    }
}

fn read(payload: &Value, kid: KeyId) -> Result<Certificate, CertificateError> {
    let certificate = Certificate::deserialize(payload)
        .map_err(|error| form(&format!("what is signed is none: {error}")))?;
    let signer = certificate.signed_by.as_ref().map(|by| by.key_id);
    if certificate.schema != SCHEMA || signer != Some(kid) {
        let says = &certificate.schema;
        return Err(form(&format!(
            "what is signed says schema {says:?} and another signer"
        )));
    }
    Ok(certificate)
}

fn form(problem: &str) -> CertificateError {
    CertificateError::Form(problem.to_owned())
}
