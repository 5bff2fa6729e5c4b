//! Ciphertext format, AEAD suites, signatures and key material.
//!
//! `docs/format/README.md` is the definition; its golden files are kept for ever and tested here.
//! Nothing in this crate does IO, except that it asks the operating system for random bytes.

mod aead;
mod associated_data;
mod cbc;
mod check_value;
mod ciphertext;
mod data_key;
mod encoding;
mod gcm;
mod jwk;
mod jws;
mod material;
mod random;
mod signing;
#[cfg(test)]
mod wycheproof_tests;

pub use aead::{Aead, AeadError};
pub use associated_data::associated_data;
pub use cbc::Cbc;
pub use check_value::{CheckValue, WrongCheckValueLength};
pub use ciphertext::{Ciphertext, FINGERPRINT_LEN, MIN_LEN, NotCiphertext, PREFIX_LEN, prefix};
pub use data_key::{DataKey, SignsOnly};
pub use encoding::{decode_base64, encode_base64, key_id_of_text_prefix, text_prefixes};
pub use gcm::Gcm;
pub use jwk::{Jwk, JwkSet, JwkSetError};
pub use jws::{Jws, JwsError};
pub use material::{KeyMaterial, WrongKeyLength};
pub use signing::{NotASignature, NotASigningKey, PublicKey, SIGNATURE_LEN, SigningKey};
pub use zeroize::Zeroizing;
