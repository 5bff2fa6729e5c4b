//! One share of a RECOVERY key: a text of its own that tells what it is, and whether it is whole.

use std::fmt;

use rekey_envelope::{KeyMaterial, Zeroizing, decode_base64, encode_base64};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    Fingerprint, ShareError,
    encoding::base64,
    recovery::set::{SetOfShares, commitment},
};

/// The most bytes that a share's text has.
const MAX_LEN: usize = 16 * 1024;
/// What `format` says. The version is in it.
const FORMAT: &str = "rekey.recovery-share/v1";

/// One share of a RECOVERY key.
pub struct Share {
    pub(crate) set: SetOfShares,
    pub(crate) index: u8,
    pub(crate) value: KeyMaterial,
}

/// A share of a RECOVERY key.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rekey.recovery-share/v1")]
pub(crate) struct ShareForm<'a> {
    #[schemars(extend("const" = FORMAT))]
    format: &'a str,
    /// The set's id: shares of two sets never combine.
    set: Uuid,
    /// The share's number, from 1.
    index: u8,
    /// How many shares combine.
    threshold: u8,
    /// How many shares there are.
    shares: u8,
    /// The RECOVERY key that they make.
    fingerprint: Fingerprint,
    /// The counter of the newest checkpoint when the set was made.
    counter: u64,
    /// What each share of the set hashes to, in base64.
    #[schemars(with = "Vec<String>")]
    commitments: Vec<Commitment>,
    /// The secret: 32 bytes in base64.
    share: &'a str,
    /// SHA-256 of the text that Rekey writes, with an empty checksum: the first eight bytes in hex.
    checksum: &'a str,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Commitment(#[serde(with = "base64")] [u8; 32]);

impl Share {
    /// Reads a share's text, and says whether it is what its set committed to.
    ///
    /// # Errors
    /// [`ShareError`] unless it is as it was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShareError> {
        let (limit, found) = (MAX_LEN, bytes.len());
        if found > limit {
            return Err(ShareError::TooLong { limit, found });
        }
        check_format(bytes)?;
        let form: ShareForm<'_> = serde_json::from_slice(bytes).map_err(no_form)?;
        let index = form.index;
        let value = Zeroizing::new(decode_base64(form.share).unwrap_or_default());
        let value = KeyMaterial::from_slice(&value).map_err(|_| ShareError::Altered { index })?;
        let share = Self {
            index,
            value,
            set: form.into_set(),
        };
        share.check_numbers()?;
        if !same_but_for_space(share.to_text().as_bytes(), bytes) {
            return Err(ShareError::Altered { index });
        }
        match share.commitment() == share.set.commitments[usize::from(index) - 1] {
            true => Ok(share),
            false => Err(ShareError::NotCommitted { index }),
        }
    }

    /// The text to hand out. It is a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let unsigned = self.text_with("");
        let checksum = hex::encode(&Sha256::digest(unsigned.as_bytes())[..8]);
        self.text_with(&checksum)
    }

    /// Its number in the set, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// How many shares of the set combine.
    pub fn threshold(&self) -> u8 {
        self.set.threshold
    }

    /// How many shares the set has.
    pub fn shares(&self) -> u8 {
        self.set.shares
    }

    /// The set's id.
    pub fn set(&self) -> Uuid {
        self.set.set
    }

    /// The RECOVERY key that it is a share of.
    pub fn fingerprint(&self) -> Fingerprint {
        self.set.fingerprint
    }

    /// The counter of the newest checkpoint when the set was made.
    pub fn counter(&self) -> u64 {
        self.set.counter
    }

    fn check_numbers(&self) -> Result<(), ShareError> {
        let set = &self.set;
        let there = (1..=set.shares).contains(&self.index);
        if there && set.can_be() && set.commitments.len() == usize::from(set.shares) {
            return Ok(());
        }
        Err(ShareError::Numbers {
            index: self.index,
            shares: set.shares,
            threshold: set.threshold,
            commitments: set.commitments.len(),
        })
    }

    fn commitment(&self) -> [u8; 32] {
        commitment(self.set.set, self.index, &self.value)
    }

    fn text_with(&self, checksum: &str) -> Zeroizing<String> {
        let value = Zeroizing::new(encode_base64(self.value.expose_key_bytes()));
        let set = &self.set;
        let form = ShareForm {
            format: FORMAT,
            set: set.set,
            index: self.index,
            threshold: set.threshold,
            shares: set.shares,
            fingerprint: set.fingerprint,
            counter: set.counter,
            commitments: set.commitments.iter().copied().map(Commitment).collect(),
            share: &value,
            checksum,
        };
        // The full capacity at once: growing would leave a copy of the share behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN));
        serde_json::to_writer_pretty(&mut *text, &form).expect("texts and numbers are JSON");
        text.push(b'\n');
        let text = String::from_utf8(std::mem::take(&mut *text)).expect("JSON is UTF-8");
        Zeroizing::new(text)
    }
}

/// Shows its number and set, never the secret.
impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of set {})", self.index, self.set.set)
    }
}

impl ShareForm<'_> {
    fn into_set(self) -> SetOfShares {
        let commitments = self.commitments.into_iter();
        SetOfShares {
            set: self.set,
            threshold: self.threshold,
            shares: self.shares,
            fingerprint: self.fingerprint,
            counter: self.counter,
            commitments: commitments.map(|commitment| commitment.0).collect(),
        }
    }
}

/// Whether two texts are the same: space and the ends of lines change where people copy and print.
fn same_but_for_space(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|text| text.iter().filter(|c| !c.is_ascii_whitespace()));
    one.eq(other)
}

/// Looked at first, so that what is told of a later version is that.
fn check_format(bytes: &[u8]) -> Result<(), ShareError> {
    #[derive(Deserialize)]
    struct Format {
        format: String,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(no_form)?;
    if format == FORMAT {
        return Ok(());
    }
    Err(ShareError::Format {
        expected: FORMAT,
        found: format.chars().take(40).collect(),
    })
}

/// Where reading ended, and no word of what stood there: it may be the secret.
fn no_form(error: serde_json::Error) -> ShareError {
    ShareError::Form {
        line: error.line(),
        column: error.column(),
    }
}
