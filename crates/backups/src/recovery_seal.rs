//! The seal to the RECOVERY key: HPKE (RFC 9180) with X-Wing, HKDF-SHA256 and AES-256-GCM.

use hpke::{
    Deserializable, HpkeError, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::XWing, single_shot_open, single_shot_seal_inout_detached_with_rng,
};
use rekey_envelope::Zeroizing;

use crate::{
    BundleError, RecoveryKey, RecoveryPublicKey, Seal,
    document::RecoverySeal,
    synthetic::{AtOnce, Sealed},
};

/// Keeps the encapsulation apart from anything else derived from a key.
const LABEL: &[u8] = b"rekey bundle v1 recovery encapsulation";
/// What is bound goes into `info`, as RFC 9180 §8.1 asks of those who seal once.
const NO_AAD: &[u8] = b"";

impl RecoveryPublicKey {
    pub(crate) fn seal(&self, sealed: &Sealed<'_>) -> Result<RecoverySeal, BundleError> {
        let mut chance = AtOnce::new(sealed.derive(LABEL, self.as_bytes()));
        let mut ciphertext = sealed.plaintext.to_vec();
        let made = single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            self.key(),
            sealed.associated_data,
            ciphertext.as_mut_slice().into(),
            NO_AAD,
            &mut chance,
        );
        let (encapsulation, tag) = made.map_err(|_| BundleError::NotSealed(self.fingerprint()))?;
        if !chance.was_asked_once() {
            return Err(BundleError::OtherRandomness);
        }
        let encapsulation = encapsulation.to_bytes().as_slice().try_into();
        Ok(RecoverySeal {
            fingerprint: self.fingerprint(),
            encapsulation: encapsulation.expect("an encapsulation of X-Wing has 1120 bytes"),
            ciphertext: [ciphertext.as_slice(), &tag.to_bytes()].concat(),
        })
    }
}

impl RecoveryKey {
    pub(crate) fn open(
        &self,
        seal: &RecoverySeal,
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let expected = self.public_key().fingerprint();
        if seal.fingerprint != expected {
            return Err(BundleError::OtherRecoveryKey {
                expected,
                found: seal.fingerprint,
            });
        }
        let opened = self.open_hpke(seal, associated_data);
        opened.map_err(|_| BundleError::NotAuthentic {
            seal: Seal::Recovery,
        })
    }

    fn open_hpke(&self, seal: &RecoverySeal, info: &[u8]) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
        let encapsulation = Deserializable::from_bytes(&seal.encapsulation)?;
        single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private_key(),
            &encapsulation,
            info,
            &seal.ciphertext,
            NO_AAD,
        )
        .map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use hpke::Kem;
    use rekey_envelope::KeyMaterial;

    use super::*;

    fn sealed_with(byte: u8, to: &RecoveryPublicKey) -> (Vec<u8>, AtOnce) {
        let mut chance = AtOnce::new(Zeroizing::new([byte; 64]));
        let made = single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            to.key(),
            b"info",
            [0; 32].as_mut_slice().into(),
            NO_AAD,
            &mut chance,
        );
        let (encapsulation, tag) = made.unwrap();
        let bytes = [encapsulation.to_bytes().as_slice(), &tag.to_bytes()].concat();
        (bytes, chance)
    }

    /// Format 1 rests on it. Where an upgrade of the library changes it, every drill would cry.
    #[test]
    fn the_library_asks_for_64_bytes_at_once_and_seals_by_nothing_else() {
        let to = RecoveryKey::from_seed(KeyMaterial::generate()).public_key();
        let [(one, chance), (again, _), (other, _)] = [1, 1, 2].map(|byte| sealed_with(byte, &to));
        assert!(chance.was_asked_once());
        assert_eq!(one, again);
        assert_ne!(one, other);
    }

    #[test]
    fn the_suite_is_that_of_the_format() {
        assert_eq!(XWing::KEM_ID, 0x647a);
    }
}
