//! Nonces: random, and never twice.

use rand::{TryRng, rngs::SysRng};

use crate::AeadError;

/// Straight from the operating system: a generator in the process would repeat itself after a fork
/// or in a second virtual machine started from one snapshot, and a repeated nonce is fatal to GCM.
pub(crate) fn nonce<const LEN: usize>() -> Result<[u8; LEN], AeadError> {
    let mut nonce = [0; LEN];
    SysRng
        .try_fill_bytes(&mut nonce)
        .map_err(|_| AeadError::NoRandomness)?;
    Ok(nonce)
}
