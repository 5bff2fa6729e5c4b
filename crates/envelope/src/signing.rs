//! Ed25519 (RFC 8032): a data key's 256 bits as the seed of a pair that signs.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::KeyMaterial;

/// Bytes in a signature.
pub const SIGNATURE_LEN: usize = 64;
/// Bytes in a public key.
const PUBLIC_KEY_LEN: usize = 32;

/// Key material from which the library makes no pair: a fault of the program or the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no Ed25519 pair could be made from the key's material; the signing library refused it")]
pub struct NotASigningKey;

/// A signature that is not this key's over these bytes, or no signature at all. Retrying does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signature is not this key's over these bytes: they were altered, or another key signed"
)]
pub struct NotASignature;

/// A pair that signs. The library keeps the seed and wipes it on drop; it is not read back.
pub struct SigningKey(Ed25519KeyPair);

/// The public half: published, kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_KEY_LEN]);

impl SigningKey {
    /// The pair whose seed is `material`.
    ///
    /// # Errors
    /// [`NotASigningKey`] where the library refuses it.
    pub fn new(material: &KeyMaterial) -> Result<Self, NotASigningKey> {
        // There is no public half here to compare the pair with; whoever stored one compares.
        let pair = Ed25519KeyPair::from_seed_unchecked(material.expose_key_bytes());
        pair.map(Self).map_err(|_| NotASigningKey)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(
            bytes
                .try_into()
                .expect("an Ed25519 public key has 32 bytes"),
        )
    }

    /// Signs `message`; the same bytes give the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = self.0.sign(message);
        let bytes = signature.as_ref().try_into();
        bytes.expect("an Ed25519 signature has 64 bytes")
    }
}

/// Shows the public half only.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey")
            .field(&self.public_key())
            .finish()
    }
}

impl PublicKey {
    /// Checks that the pair of this key signed `message`.
    ///
    /// # Errors
    /// [`NotASignature`] if not, whatever the reason.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), NotASignature> {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(message, signature).map_err(|_| NotASignature)
    }

    /// The key as it is stored and published.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = NotASignature;

    fn try_from(bytes: &[u8]) -> Result<Self, NotASignature> {
        bytes.try_into().map(Self).map_err(|_| NotASignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, tests 1 to 3 and SHA(abc): seed, public key, message, signature.
    const RFC_8032: [[&str; 4]; 4] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
        [
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ],
    ];

    #[test]
    fn it_signs_as_rfc_8032_says() {
        for vector in RFC_8032 {
            let [seed, public, message, signature] = vector.map(|text| hex::decode(text).unwrap());
            let key = SigningKey::new(&KeyMaterial::from_slice(&seed).unwrap()).unwrap();
            assert_eq!(key.public_key().as_bytes()[..], public);
            assert_eq!(key.sign(&message)[..], signature);
            let public = PublicKey::try_from(&public[..]).unwrap();
            assert_eq!(public.verify(&message, &signature), Ok(()));
        }
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let key = SigningKey::new(&KeyMaterial::generate()).unwrap();
        let (message, public) = (b"census: zero".to_vec(), key.public_key());
        let signature = key.sign(&message);
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.verify(&changed, &signature), Err(NotASignature));
        }
        for bit in 0..SIGNATURE_LEN * 8 {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.verify(&message, &changed), Err(NotASignature));
        }
        for short in [0, 1, 63] {
            assert!(public.verify(&message, &signature[..short]).is_err());
        }
        let other = SigningKey::new(&KeyMaterial::generate()).unwrap();
        assert!(other.public_key().verify(&message, &signature).is_err());
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let seed = [7; 32];
        let key = SigningKey::new(&KeyMaterial::from_slice(&seed).unwrap()).unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains("7, 7, 7"), "{shown}");
    }
}
