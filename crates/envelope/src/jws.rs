//! Signed bytes as a JWS in compact serialisation (RFC 7515, RFC 8037), strictly of our form.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rekey_domain::KeyId;
use serde::{Deserialize, Serialize};

use crate::{JwkSet, PublicKey, SIGNATURE_LEN, SigningKey};

/// The only algorithm. The header's algorithm is compared with it and chooses nothing.
const ALG: &str = "EdDSA";

/// A text that is no JWS of ours, or one that nobody should trust. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It does not have the form.
    #[error("no signed text of ours: {0}")]
    Form(&'static str),
    /// The header says another algorithm.
    #[error("signed with algorithm {found:?}; expected \"EdDSA\" and nothing else")]
    Algorithm {
        /// What it says.
        found: String,
    },
    /// It is something else that is signed.
    #[error("what is signed is of type {found:?}; expected {expected:?}")]
    Type {
        /// What it should be.
        expected: String,
        /// What it says.
        found: String,
    },
    /// The key is not among those given.
    #[error(
        "it says that key {kid} signed it, which is not among the public keys given; publish them anew with `rekey keys public --output json`"
    )]
    UnknownKey {
        /// Which.
        kid: KeyId,
    },
    /// The signature does not fit.
    #[error(
        "the signature is not that of key {kid} over this text: it was altered, or another key signed it"
    )]
    NotAuthentic {
        /// Which key it names.
        kid: KeyId,
    },
}

/// Only these members: a header that asks for anything else, such as a key of its own, is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

/// Signed bytes, read but not verified: only [`Jws::verify`] shows the payload.
pub struct Jws {
    header: Header,
    signed: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
}

impl Jws {
    /// Signs `payload`, exactly these bytes, as something of type `typ`.
    pub fn sign(payload: &[u8], typ: &str, kid: KeyId, key: &SigningKey) -> String {
        let header = Header {
            alg: ALG.to_owned(),
            kid,
            typ: typ.to_owned(),
        };
        let header = serde_json::to_vec(&header).expect("three texts are JSON");
        let [header, payload] = [&header[..], payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Reads a JWS. Strict: base64url without padding, one text for one value.
    ///
    /// # Errors
    /// [`JwsError`] unless it has the form of one that [`Jws::sign`] makes.
    pub fn parse(text: &str) -> Result<Self, JwsError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Form("no dots"))?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Form("one dot"))?;
        let decode = |part: &str, what| {
            let decoded = URL_SAFE_NO_PAD.decode(part);
            decoded.map_err(|_| JwsError::Form(what))
        };
        let payload = decode(payload, "the payload is no base64url")?;
        let signature = decode(signature, "the signature is no base64url")?;
        let signature = signature.try_into();
        let signature = signature.map_err(|_| JwsError::Form("the signature has not 64 bytes"))?;
        let header = decode(header, "the header is no base64url")?;
        Ok(Self {
            header: read_header(&header)?,
            signed: signed.as_bytes().to_vec(),
            payload,
            signature,
        })
    }

    /// The key that it says signed it.
    pub fn kid(&self) -> KeyId {
        self.header.kid
    }

    /// The payload, if it is of type `typ` and one of `keys` signed it: the one it names, no other
    /// is tried.
    ///
    /// # Errors
    /// [`JwsError`]; nothing of the payload is to be believed then.
    pub fn verify(&self, typ: &str, keys: &JwkSet) -> Result<&[u8], JwsError> {
        let kid = self.kid();
        let unknown = || JwsError::UnknownKey { kid };
        let key = keys.find(kid).ok_or_else(unknown)?;
        let key = key.public_key().map_err(|_| unknown())?;
        self.verify_with(typ, &key)
    }

    fn verify_with(&self, typ: &str, key: &PublicKey) -> Result<&[u8], JwsError> {
        let kid = self.kid();
        key.verify(&self.signed, &self.signature)
            .map_err(|_| JwsError::NotAuthentic { kid })?;
        if self.header.typ != typ {
            return Err(JwsError::Type {
                expected: typ.to_owned(),
                found: self.header.typ.clone(),
            });
        }
        Ok(&self.payload)
    }
}

/// The algorithm is looked at first, so that what is told of a foreign header is that.
fn read_header(bytes: &[u8]) -> Result<Header, JwsError> {
    #[derive(Deserialize)]
    struct Alg {
        alg: String,
    }
    let Alg { alg: found } = serde_json::from_slice(bytes)
        .map_err(|_| JwsError::Form("the header names no algorithm"))?;
    if found != ALG {
        return Err(JwsError::Algorithm { found });
    }
    serde_json::from_slice(bytes)
        .map_err(|_| JwsError::Form("the header has not just alg, kid and typ"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Jwk, KeyMaterial};

    const TYP: &str = "test+json";
    const KID: KeyId = KeyId::new(0x0a1b_2c3d);

    fn key(byte: u8) -> SigningKey {
        SigningKey::new(&KeyMaterial::from_slice(&[byte; 32]).unwrap()).unwrap()
    }

    fn published(key: &SigningKey) -> JwkSet {
        let keys = vec![Jwk::new(KID, &key.public_key())];
        JwkSet { keys }
    }

    fn verify(text: &str, keys: &JwkSet) -> Result<Vec<u8>, JwsError> {
        Jws::parse(text)?.verify(TYP, keys).map(<[u8]>::to_vec)
    }

    /// The same payload and a right signature, under a header of someone else's choice.
    fn under_header(header: &str) -> String {
        let signed = [header, "{}"]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let signature = URL_SAFE_NO_PAD.encode(key(1).sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    proptest! {
        #[test]
        fn what_was_signed_is_read_back_byte_for_byte(payload: Vec<u8>) {
            let text = Jws::sign(&payload, TYP, KID, &key(1));
            prop_assert_eq!(verify(&text, &published(&key(1))), Ok(payload));
        }

        #[test]
        fn a_text_changed_anywhere_is_refused(at in 0usize..200, to in 33u8..127) {
            let text = Jws::sign(b"{\"rows\":0}", TYP, KID, &key(1));
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert!(verify(&changed, &published(&key(1))).is_err(), "{}", changed);
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text: String) {
            prop_assert!(verify(&text, &published(&key(1))).is_err());
        }
    }

    #[test]
    fn only_the_key_that_is_named_is_believed() {
        let text = Jws::sign(b"{}", TYP, KID, &key(1));
        let forged = verify(&text, &published(&key(2)));
        assert_eq!(forged, Err(JwsError::NotAuthentic { kid: KID }));
        let none = verify(&text, &JwkSet::default());
        assert_eq!(none, Err(JwsError::UnknownKey { kid: KID }));
    }

    #[test]
    fn a_signature_over_something_else_is_none_over_this() {
        let text = Jws::sign(b"{}", "other+json", KID, &key(1));
        let other = verify(&text, &published(&key(1)));
        assert!(matches!(other, Err(JwsError::Type { .. })), "{other:?}");
    }

    #[test]
    fn a_header_of_another_form_is_refused_however_well_it_is_signed() {
        let ours = r#"{"alg":"EdDSA","kid":"0a1b2c3d","typ":"test+json"}"#;
        let keys = published(&key(1));
        assert_eq!(verify(&under_header(ours), &keys), Ok(b"{}".to_vec()));
        for alg in ["none", "None", "HS256", "ES256", "Ed25519", "eddsa", ""] {
            let header = ours.replace("EdDSA", alg);
            let refused = verify(&under_header(&header), &keys);
            assert!(
                matches!(refused, Err(JwsError::Algorithm { .. })),
                "{header}"
            );
        }
        for more in [
            r#""crit":["b64"],"b64":false"#,
            r#""jwk":{"kty":"OKP"}"#,
            r#""x5c":[]"#,
            r#""kid":"0a1b2c3d""#,
            r#""alg":"none""#,
        ] {
            let header = ours.replace('}', &format!(",{more}}}"));
            assert!(verify(&under_header(&header), &keys).is_err(), "{header}");
        }
        for header in ["", "{}", "null", "[]", r#"{"alg":"EdDSA"}"#, r#"{"alg":7}"#] {
            assert!(verify(&under_header(header), &keys).is_err(), "{header}");
        }
    }

    #[test]
    fn a_text_cut_short_or_without_its_signature_is_refused() {
        let (text, keys) = (Jws::sign(b"{}", TYP, KID, &key(1)), published(&key(1)));
        for end in 0..text.len() {
            assert!(verify(&text[..end], &keys).is_err(), "{end}");
        }
        let unsigned = format!("{}.", text.rsplit_once('.').unwrap().0);
        assert!(verify(&unsigned, &keys).is_err());
        assert!(verify(&format!("{text}."), &keys).is_err());
        assert!(verify(&format!("{text}\n"), &keys).is_err());
    }
}
