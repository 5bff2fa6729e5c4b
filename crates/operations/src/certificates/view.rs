//! A certificate as people and programs are shown it, with what its signature is worth.

use rekey_domain::Principal;
use rekey_envelope::JwkSet;
use rekey_store::rotations;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    content::Certificate,
    published,
    verify::{CertificateError, Verified, verify_certificate},
};
use crate::{Action, OperationError, Services, authorise};

/// Whether a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// It is.
    Signed,
    /// It will be, once a key of the keyring `signing` can be used.
    Waits,
    /// It was written by a program that did not sign, and stays as it is.
    Unsigned,
    /// It is, by a key that is compromised: others may have signed.
    Unproved,
    /// It is, and is not to be believed, or cannot be read: what was signed was changed, or the key is not one of ours.
    Bad,
}

/// The certificate of a rotation.
#[derive(Debug, Clone)]
pub struct CertificateView {
    /// What it says, for people.
    pub certificate: Certificate,
    /// The same, every field of it.
    pub payload: Value,
    /// The signed text.
    pub jws: Option<String>,
    /// Whether it is signed.
    pub signature: Signature,
}

/// The state of a rotation's signature; none: it has no certificate.
pub(crate) fn signature(rotation: &rotations::Rotation) -> Option<Signature> {
    rotation.certificate.as_ref()?;
    Some(
        match (&rotation.certificate_jws, rotation.certificate_due) {
            (Some(_), _) => Signature::Signed,
            (None, Some(_)) => Signature::Waits,
            (None, None) => Signature::Unsigned,
        },
    )
}

/// What a rotation's certificate says, and what its signature is worth by the published keys. From a signed certificate
/// only the signed content is shown.
pub(crate) fn shown(
    rotation: &rotations::Rotation,
    keys: &JwkSet,
) -> (Option<Value>, Option<Signature>) {
    let signature = signature(rotation);
    let Some(jws) = &rotation.certificate_jws else {
        let written = rotation.certificate.as_deref();
        let said = written.and_then(|text| serde_json::from_str(text).ok());
        return (said, signature);
    };
    match verify_certificate(jws.as_bytes(), keys) {
        Ok(verified) => (Some(verified.payload), signature),
        Err(CertificateError::Compromised { .. }) => (None, Some(Signature::Unproved)),
        Err(_) => (None, Some(Signature::Bad)),
    }
}

/// The certificate of a completed rotation. A signed one is verified with the published keys first.
///
/// # Errors
/// [`OperationError::Refused`] before the rotation completed, [`OperationError::Certificate`] for one
/// whose signature is bad: then the store was tampered with.
pub async fn certificate(
    services: &Services,
    rotation: Uuid,
    principal: &Principal,
) -> Result<CertificateView, OperationError> {
    authorise(principal, Action::ReadCertificate)?;
    let rotation = rotations::by_id(services.store.db(), rotation).await?;
    let (Some(written), Some(signature)) = (&rotation.certificate, signature(&rotation)) else {
        return Err(OperationError::Refused(format!(
            "rotation {} is {}; its certificate is written when it is COMPLETED",
            rotation.id, rotation.state
        )));
    };
    if let Some(jws) = rotation.certificate_jws {
        let keys = published::key_set(services).await?;
        let Verified {
            certificate,
            payload,
            ..
        } = verify_certificate(jws.as_bytes(), &keys)?;
        return Ok(CertificateView {
            certificate,
            payload,
            jws: Some(jws),
            signature,
        });
    }
    let wrong = |error: serde_json::Error| CertificateError::Form(error.to_string());
    Ok(CertificateView {
        certificate: serde_json::from_str(written).map_err(wrong)?,
        payload: serde_json::from_str(written).map_err(wrong)?,
        jws: None,
        signature,
    })
}
