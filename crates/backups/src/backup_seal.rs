//! The seal under a BACKUP key: AES-256-GCM with a nonce derived from what is sealed.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use rekey_domain::KeyId;
use rekey_envelope::{Aead, Gcm, KeyMaterial, Zeroizing};

use crate::{BundleError, Seal, document::BackupSeal, synthetic::Sealed};

/// Keeps the nonce apart from anything else derived from a key.
const LABEL: &[u8] = b"rekey bundle v1 backup nonce";

/// A BACKUP key, with which bundles are sealed and opened.
#[derive(Clone, Copy)]
pub struct BackupKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// Its 256 bits.
    pub material: &'a KeyMaterial,
}

impl BackupKey<'_> {
    pub(crate) fn seal(&self, sealed: &Sealed<'_>) -> BackupSeal {
        let nonce = sealed.derive::<12>(LABEL, &self.id.to_bytes());
        let mut ciphertext = sealed.plaintext.to_vec();
        let tag = Aes256Gcm::new(self.material.expose_key_bytes().into())
            .encrypt_inout_detached(
                (&*nonce).into(),
                sealed.associated_data,
                ciphertext.as_mut_slice().into(),
            )
            .expect("a plaintext of some MiB is below every limit of GCM");
        BackupSeal {
            key_id: self.id,
            nonce: *nonce,
            ciphertext: [ciphertext.as_slice(), &tag].concat(),
        }
    }

    pub(crate) fn open(
        &self,
        seal: &BackupSeal,
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        if seal.key_id != self.id {
            return Err(BundleError::OtherBackupKey {
                expected: self.id,
                found: seal.key_id,
            });
        }
        let body = [seal.nonce.as_slice(), &seal.ciphertext].concat();
        let opened = Gcm::new(self.material).decrypt(&body, associated_data);
        opened.map_err(|_| BundleError::NotAuthentic { seal: Seal::Backup })
    }
}
