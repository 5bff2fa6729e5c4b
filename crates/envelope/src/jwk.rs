//! Public keys as a JWK set (RFC 7517, RFC 8037): what anyone needs to check our signatures.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rekey_domain::{KeyId, KeyName, KeyState};
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// A published key. Members of ours begin with `rekey_`; a JOSE library ignores them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    kty: String,
    crv: String,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    used_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    /// The key's id.
    pub kid: KeyId,
    x: String,
    /// The key's name.
    #[serde(rename = "rekey_key", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<KeyName>,
    /// Where it was in its life when the set was published.
    #[serde(
        rename = "rekey_state",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub state: Option<KeyState>,
    /// When it was made, RFC 3339.
    #[serde(
        rename = "rekey_created_at",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub created_at: Option<String>,
    /// Since when it signs.
    #[serde(
        rename = "rekey_activated_at",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub activated_at: Option<String>,
    /// Since when it signs no more.
    #[serde(
        rename = "rekey_deactivated_at",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub deactivated_at: Option<String>,
    /// Since when others may sign with it: what it signed proves nothing.
    #[serde(
        rename = "rekey_compromised_since",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub compromised_since: Option<String>,
}

/// A set of published keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A text that is no set of keys of ours. Retrying does not help.
#[derive(Debug, thiserror::Error)]
pub enum JwkSetError {
    /// It does not have the form.
    #[error("expected the JWK set that `rekey keys public --output json` prints; {0}")]
    Form(#[from] serde_json::Error),
    /// A key in it is of another kind.
    #[error(
        "key {kid} is no Ed25519 public key: expected kty \"OKP\", crv \"Ed25519\" and an x of 32 bytes in base64url"
    )]
    Kind {
        /// Which.
        kid: KeyId,
    },
    /// Two keys have the same id.
    #[error("key {kid} is there twice: which of them signed cannot be told")]
    Twice {
        /// Which.
        kid: KeyId,
    },
}

impl Jwk {
    /// A key to publish, of which nothing but its bytes is said.
    pub fn new(kid: KeyId, key: &PublicKey) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            used_for: Some("sig".to_owned()),
            alg: Some("EdDSA".to_owned()),
            kid,
            x: URL_SAFE_NO_PAD.encode(key.as_bytes()),
            name: None,
            state: None,
            created_at: None,
            activated_at: None,
            deactivated_at: None,
            compromised_since: None,
        }
    }

    /// The key's bytes in base64url, as the set shows them.
    pub fn x(&self) -> &str {
        &self.x
    }

    /// The key itself.
    ///
    /// # Errors
    /// [`JwkSetError::Kind`] for a key that is no Ed25519 public key.
    pub fn public_key(&self) -> Result<PublicKey, JwkSetError> {
        let wrong = || JwkSetError::Kind { kid: self.kid };
        if self.kty != "OKP" || self.crv != "Ed25519" {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.x).map_err(|_| wrong())?;
        PublicKey::try_from(bytes.as_slice()).map_err(|_| wrong())
    }
}

impl JwkSet {
    /// Reads a set; members that are not known are ignored, as RFC 7517 asks.
    ///
    /// # Errors
    /// [`JwkSetError`] unless every key in it is one of ours and has an id of its own.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwkSetError> {
        let set: Self = serde_json::from_slice(bytes)?;
        for (index, key) in set.keys.iter().enumerate() {
            key.public_key()?;
            if set.keys[..index].iter().any(|before| before.kid == key.kid) {
                return Err(JwkSetError::Twice { kid: key.kid });
            }
        }
        Ok(set)
    }

    /// The key of this id.
    pub fn find(&self, kid: KeyId) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.2, with a kid of ours.
    const RFC_8037: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"0a1b2c3d","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn set(keys: &str) -> Result<JwkSet, JwkSetError> {
        JwkSet::parse(format!(r#"{{"schema":"x","keys":[{keys}]}}"#).as_bytes())
    }

    #[test]
    fn the_key_of_rfc_8037_is_read_and_written_as_it_is() {
        let set = set(RFC_8037).unwrap();
        let key = set.keys[0].public_key().unwrap();
        assert_eq!(key.as_bytes()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        let written = serde_json::to_value(Jwk::new(set.keys[0].kid, &key)).unwrap();
        assert_eq!(written["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn what_is_no_set_of_ed25519_keys_is_refused() {
        let twice = format!("{RFC_8037},{RFC_8037}");
        for bad in [
            &RFC_8037.replace("OKP", "EC"),
            &RFC_8037.replace("Ed25519", "X25519"),
            &RFC_8037.replace("11qY", ""),
            &RFC_8037.replace("HURo", "HUR="),
            &RFC_8037.replace("0a1b2c3d", "1"),
            &twice,
            "7",
        ] {
            assert!(set(bad).is_err(), "{bad}");
        }
        for bad in ["", "[]", "{}", "null", r#"{"keys":{}}"#] {
            assert!(JwkSet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
