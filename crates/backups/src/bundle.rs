//! A bundle: made, read by its name, opened with either key, and made again by a drill.

use rekey_domain::{KeyId, Purpose};
use uuid::Uuid;

use crate::{
    BackedUpKey, BackupKey, BundleError, BundleName, Fingerprint, RecoveryKey, RecoveryPublicKey,
    Seal,
    associated_data::InClear,
    document::{BackupSeal, Document, Master, RecoverySeal, Seals, check_length},
    synthetic::Sealed,
};

/// One key's backup, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    document: Document,
    bytes: Vec<u8>,
}

/// What a key is sealed under beside the RECOVERY key.
#[derive(Clone, Copy)]
pub enum Under<'a> {
    /// A BACKUP key: all keys but BACKUP keys.
    BackupKey(BackupKey<'a>),
    /// The master key, by which a BACKUP key is wrapped already. Its details are sealed under the BACKUP key itself.
    MasterKey {
        /// The BACKUP key, in the format of the KMS.
        wrapped: &'a [u8],
    },
}

impl Bundle {
    /// Seals `key`. The same key, details and keys to seal with give the same bytes.
    ///
    /// # Errors
    /// [`BundleError::TooLong`] for a wrapped key of many KiB; [`BundleError::Contradiction`] for a BACKUP key that is not
    /// under the master key, another key that is, or a time after the year 9999; [`BundleError::OtherRandomness`] and
    /// [`BundleError::NotSealed`] by the library of the RECOVERY seal.
    pub fn seal(
        key: &BackedUpKey,
        under: Under<'_>,
        recovery: Option<&RecoveryPublicKey>,
    ) -> Result<Self, BundleError> {
        under.check(key)?;
        if !key.details.has_times_of_four_digits() {
            return Err(BundleError::Contradiction("a time of a year after 9999"));
        }
        let in_clear = InClear {
            deployment: key.deployment,
            key_id: key.key_id,
            backup: under.backup_key(key).id,
            master: under.master(key).map(|master| master.keyring),
            recovery: recovery.map(RecoveryPublicKey::fingerprint),
        };
        let recovery = recovery.map(|to| seal_to_recovery(key, to, &in_clear));
        let seals = Seals {
            backup: under.seal(key, &in_clear),
            master: under.master(key),
            recovery: recovery.transpose()?,
        };
        let document = Document::new(&in_clear, seals);
        let bytes = document.to_bytes();
        check_length(&bytes)?;
        Ok(Self { document, bytes })
    }

    /// Reads a bundle that is stored as `name`. No altered byte passes, in whichever part.
    ///
    /// # Errors
    /// [`BundleError`] unless it is the bundle of this name.
    pub fn read(name: &BundleName, bytes: &[u8]) -> Result<Self, BundleError> {
        check_length(bytes)?;
        check_name(name, name.key_id(), bytes)?;
        let document = Document::parse(bytes)?;
        check_name(name, document.key_id, bytes)?;
        let bytes = bytes.to_vec();
        Ok(Self { document, bytes })
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name to store them under.
    pub fn name(&self) -> BundleName {
        BundleName::of(self.document.key_id, &self.bytes)
    }

    /// The deployment that it says it is of.
    pub fn deployment(&self) -> Uuid {
        self.document.deployment
    }

    /// The key that it says it holds.
    pub fn key_id(&self) -> KeyId {
        self.document.key_id
    }

    /// The BACKUP key that opens it; of a BACKUP key's own bundle, that key.
    pub fn backup_key(&self) -> KeyId {
        self.document.seals.backup.key_id
    }

    /// The RECOVERY key that opens it, if there was one.
    pub fn recovery_key(&self) -> Option<Fingerprint> {
        self.document.in_clear().recovery
    }

    /// Of a BACKUP key's own bundle: its keyring's id and the wrapped key. What the KMS makes of them is the
    /// [`BackupKey`] to open it with.
    pub fn wrapped(&self) -> Option<(Uuid, &[u8])> {
        let master = self.document.seals.master.as_ref()?;
        Some((master.keyring, &master.wrapped))
    }

    /// The key, by its BACKUP seal.
    ///
    /// # Errors
    /// [`BundleError`]: another BACKUP key, or a bundle that was altered or is not of Rekey.
    pub fn open(&self, key: BackupKey<'_>) -> Result<BackedUpKey, BundleError> {
        let (seal, in_clear) = (Seal::Backup, self.document.in_clear());
        let associated_data = in_clear.associated_data(seal);
        let plaintext = key.open(&self.document.seals.backup, &associated_data)?;
        let wrapped = in_clear.master.map(|_| key.material);
        BackedUpKey::read(&plaintext, seal, &in_clear, wrapped)
    }

    /// The key, by its RECOVERY seal. Who has the public key can have made it: that the bundle is Rekey's is for a
    /// checkpoint to say.
    ///
    /// # Errors
    /// [`BundleError`]: no RECOVERY seal, another RECOVERY key, or a bundle that was altered or is not of Rekey.
    pub fn recover(&self, key: &RecoveryKey) -> Result<BackedUpKey, BundleError> {
        let (seal, in_clear) = (Seal::Recovery, self.document.in_clear());
        let sealed = self.document.seals.recovery.as_ref();
        let sealed = sealed.ok_or(BundleError::NoRecoverySeal)?;
        let plaintext = key.open(sealed, &in_clear.associated_data(seal))?;
        BackedUpKey::read(&plaintext, seal, &in_clear, None)
    }

    /// Opens the BACKUP seal, makes the whole bundle again and compares it byte for byte: so both seals are proved
    /// without the private RECOVERY key. `recovery` is the public key that should open it.
    ///
    /// # Errors
    /// [`BundleError`]: as for [`open`](Self::open), or [`BundleError::Differs`].
    pub fn reseal_and_compare(
        &self,
        key: BackupKey<'_>,
        recovery: Option<&RecoveryPublicKey>,
    ) -> Result<BackedUpKey, BundleError> {
        let opened = self.open(key)?;
        let under = match self.wrapped() {
            Some((_, wrapped)) => Under::MasterKey { wrapped },
            None => Under::BackupKey(key),
        };
        let again = Self::seal(&opened, under, recovery)?;
        match self.first_difference(&again) {
            Some(part) => Err(BundleError::Differs { part }),
            None => Ok(opened),
        }
    }

    fn first_difference(&self, again: &Self) -> Option<&'static str> {
        let (ours, theirs) = (&self.document.seals, &again.document.seals);
        let parts = [
            ("RECOVERY key", self.recovery_key() == again.recovery_key()),
            ("RECOVERY seal", ours.recovery == theirs.recovery),
            ("BACKUP seal", ours.backup == theirs.backup),
            ("text", self.bytes == again.bytes),
        ];
        let mut different = parts.into_iter().filter(|(_, same)| !same);
        different.next().map(|(part, _)| part)
    }
}

impl<'a> Under<'a> {
    fn check(&self, key: &BackedUpKey) -> Result<(), BundleError> {
        let by_master = matches!(self, Self::MasterKey { .. });
        let under_itself = self.backup_key(key).id == key.key_id;
        if by_master == (key.details.purpose == Purpose::Backup) && by_master == under_itself {
            return Ok(());
        }
        let what = "a BACKUP key is sealed under itself and wrapped by the master key, and no other key is";
        Err(BundleError::Contradiction(what))
    }

    /// The key of the BACKUP seal.
    fn backup_key<'b>(&self, key: &'b BackedUpKey) -> BackupKey<'b>
    where
        'a: 'b,
    {
        match *self {
            Self::BackupKey(backup) => backup,
            Self::MasterKey { .. } => BackupKey {
                id: key.key_id,
                material: &key.material,
            },
        }
    }

    fn master(&self, key: &BackedUpKey) -> Option<Master> {
        match self {
            Self::BackupKey(_) => None,
            Self::MasterKey { wrapped } => Some(Master {
                keyring: key.details.keyring,
                wrapped: wrapped.to_vec(),
            }),
        }
    }

    fn seal(&self, key: &BackedUpKey, in_clear: &InClear) -> BackupSeal {
        let plaintext = match self {
            Self::BackupKey(_) => key.to_plaintext(),
            // No key encrypts itself: nothing is proved of ciphers that do.
            Self::MasterKey { .. } => key.to_plaintext_of_details(),
        };
        self.backup_key(key).seal(&Sealed {
            secret: &key.material,
            plaintext: &plaintext,
            associated_data: &in_clear.associated_data(Seal::Backup),
        })
    }
}

fn seal_to_recovery(
    key: &BackedUpKey,
    to: &RecoveryPublicKey,
    in_clear: &InClear,
) -> Result<RecoverySeal, BundleError> {
    to.seal(&Sealed {
        secret: &key.material,
        plaintext: &key.to_plaintext(),
        associated_data: &in_clear.associated_data(Seal::Recovery),
    })
}

fn check_name(name: &BundleName, key_id: KeyId, bytes: &[u8]) -> Result<(), BundleError> {
    let (expected, found) = (*name, BundleName::of(key_id, bytes));
    match found == expected {
        true => Ok(()),
        false => Err(BundleError::OtherBytes {
            expected: expected.to_string(),
            found: found.to_string(),
        }),
    }
}
