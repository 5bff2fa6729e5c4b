//! The life of a key: which state follows which, and what each state may do.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// A move a key may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The state machine has no such arrow. Retrying does not help.
    #[error("a key that is {from} cannot become {to}")]
    Move {
        /// The state it is in.
        from: KeyState,
        /// The state it was asked to take.
        to: KeyState,
    },
    /// A key must be proved recoverable before it encrypts (rule 6).
    #[error("the key is not backed up and proved, and its keyring says backup = \"required\"")]
    NotBackedUp,
}

/// A key's state, after SP 800-57 Part 1 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = String, parse_err_fn = no_key_state)]
pub enum KeyState {
    /// The standby: made and wrapped, protects nothing yet. One that is not wanted any more, as its
    /// keyring's algorithm changed, goes to be destroyed unused.
    Pending,
    /// Encrypts and decrypts.
    Active,
    /// Deactivated: decrypts what it once encrypted.
    Inactive,
    /// Decrypts for re-encryption and audited emergency access only.
    Compromised,
    /// Serves nothing; can be taken back.
    Destroying,
    /// The wrapped key is erased.
    Destroyed,
}

fn no_key_state(text: &str) -> String {
    format!("key state {text:?} is not one of ours")
}

/// Proof that a key may become primary (the backup gate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupProof {
    /// A drill restored the key and decrypted with it.
    Verified {
        /// The drill that proves it.
        drill: u128,
    },
    /// Its keyring asks for none.
    NotRequired,
    /// It replaces a compromised key, which cannot wait for a drill.
    Waived {
        /// The incident.
        incident: u128,
    },
}

impl KeyState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Active,
        Self::Inactive,
        Self::Compromised,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// Whether its material has to be there: it was primary, and values may stand under it.
    pub fn is_kept(self, was_primary: bool) -> bool {
        self.may_decrypt(was_primary)
    }

    /// Whether the machine has an arrow from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use KeyState::*;
        matches!(
            (self, next),
            (Pending, Active | Compromised | Destroying)
                | (Active, Inactive | Compromised)
                | (Inactive, Compromised | Destroying)
                | (Compromised, Destroying)
                | (Destroying, Inactive | Compromised | Destroyed)
        )
    }

    /// The state after the move to `next`.
    ///
    /// # Errors
    /// [`KeyError::Move`] where the machine has no such arrow.
    pub fn become_state(self, next: Self) -> Result<Self, KeyError> {
        if self.may_become(next) {
            Ok(next)
        } else {
            Err(KeyError::Move {
                from: self,
                to: next,
            })
        }
    }

    /// The standby becomes primary.
    ///
    /// # Errors
    /// [`KeyError::NotBackedUp`] where the keyring requires a proof and none is given;
    /// [`KeyError::Move`] where the key is not a standby.
    pub fn activate(self, required: bool, proof: Option<BackupProof>) -> Result<Self, KeyError> {
        match (required, proof) {
            (true, Some(BackupProof::Verified { .. } | BackupProof::Waived { .. }))
            | (false, Some(_)) => self.become_state(Self::Active),
            _ => Err(KeyError::NotBackedUp),
        }
    }

    /// Whether new data may be encrypted under the key.
    pub fn may_encrypt(self) -> bool {
        self == Self::Active
    }

    /// Whether clients get the key to decrypt with. Values under a compromised key must stay readable until they are
    /// moved: denying it would turn off data and protect none, as the thief can read already. Values under a key that
    /// was never primary are forged. A standby is also handed out while it is distributed, which the caller knows.
    pub fn may_decrypt(self, was_primary: bool) -> bool {
        match self {
            Self::Active | Self::Inactive => true,
            Self::Compromised => was_primary,
            Self::Pending | Self::Destroying | Self::Destroyed => false,
        }
    }

    /// Whether encryptions may be drawn from the key's budget. Leases of a replaced key go on for a while.
    pub fn may_be_drawn_on(self) -> bool {
        matches!(self, Self::Active | Self::Inactive)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_active_becomes_inactive_but_for_a_taken_back_destruction(from in 0usize..6) {
            let from = KeyState::ALL[from];
            let expected = matches!(from, KeyState::Active | KeyState::Destroying);
            prop_assert_eq!(from.may_become(KeyState::Inactive), expected);
        }

        #[test]
        fn no_walk_makes_a_used_key_encrypt_again(walk in prop::collection::vec(0usize..6, 1..20)) {
            let mut state = KeyState::Pending;
            let mut left_active = false;
            for next in walk.into_iter().map(|i| KeyState::ALL[i]) {
                let before = state;
                state = state.become_state(next).unwrap_or(before);
                left_active |= before == KeyState::Active && state != KeyState::Active;
                prop_assert!(!(left_active && state.may_encrypt()));
            }
        }
    }

    #[test]
    fn what_was_never_primary_is_read_by_nobody_and_what_is_compromised_encrypts_nothing() {
        use KeyState::*;
        for state in KeyState::ALL {
            let used = matches!(state, Active | Inactive);
            assert_eq!(state.may_decrypt(false), used, "{state}");
            assert_eq!(
                state.may_decrypt(true),
                used || state == Compromised,
                "{state}"
            );
            assert_eq!(state.may_be_drawn_on(), used, "{state}");
        }
    }

    #[test]
    fn destroyed_is_the_end() {
        assert!(
            KeyState::ALL
                .into_iter()
                .all(|next| !KeyState::Destroyed.may_become(next))
        );
    }

    #[test]
    fn activation_fails_closed_without_a_proof() {
        let pending = KeyState::Pending;
        assert_eq!(pending.activate(true, None), Err(KeyError::NotBackedUp));
        assert_eq!(
            pending.activate(true, Some(BackupProof::NotRequired)),
            Err(KeyError::NotBackedUp)
        );
        assert_eq!(pending.activate(false, None), Err(KeyError::NotBackedUp));
        assert_eq!(
            pending.activate(false, Some(BackupProof::NotRequired)),
            Ok(KeyState::Active)
        );
        for proof in [
            BackupProof::Verified { drill: 1 },
            BackupProof::Waived { incident: 1 },
        ] {
            assert_eq!(pending.activate(true, Some(proof)), Ok(KeyState::Active));
        }
    }
}
